"""The eight schools: one effect for each school, drawn from a common distribution (Rubin, 1981)."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution, HalfCauchy, Normal

from vi_dist import Model, functional, random_variable


def build(data: dict[str, Tensor]) -> Model:
    """Write the effects as ``theta = mu + tau * theta_offset`` (non-centred), which a Gaussian guide fits well.

    ``mu ~ Normal(0, 5)``, ``tau ~ HalfCauchy(5)``, ``theta_offset ~ Normal(0, 1)`` and ``y ~ Normal(theta, sigma)``.

    Args:
        data: ``y`` and ``sigma`` of shape ``[schools]``, the estimated effects and their known standard errors.
    """
    y, sigma = data["y"], data["sigma"]

    @random_variable
    def mu() -> Distribution:
        return Normal(y.new_tensor(0.0), 5.0)

    @random_variable
    def tau() -> Distribution:
        return HalfCauchy(y.new_tensor(5.0))

    @random_variable
    def theta_offset() -> Distribution:
        return Normal(y.new_zeros(len(y)), 1.0)

    @functional
    def theta() -> Tensor:
        return mu() + tau() * theta_offset()

    @random_variable
    def effect() -> Distribution:
        return Normal(theta(), sigma)

    return Model(queries=[mu(), tau(), theta_offset(), theta()], observations={effect(): y})


def build_centered(data: dict[str, Tensor]) -> Model:
    """Write the same posterior with ``theta ~ Normal(mu, tau)`` (centred), whose funnel no Gaussian guide fits.

    Args:
        data: as for :func:`build`.
    """
    y, sigma = data["y"], data["sigma"]

    @random_variable
    def mu() -> Distribution:
        return Normal(y.new_tensor(0.0), 5.0)

    @random_variable
    def tau() -> Distribution:
        return HalfCauchy(y.new_tensor(5.0))

    @random_variable
    def theta() -> Distribution:
        return Normal(mu(), tau()).expand(y.shape)

    @random_variable
    def effect() -> Distribution:
        return Normal(theta(), sigma)

    return Model(queries=[mu(), tau(), theta()], observations={effect(): y})
