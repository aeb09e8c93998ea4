"""A linear regression on 100 simulated rows of five columns, with correlated coefficients."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution, HalfNormal, Normal

from vi_dist import Model, random_variable


def build(data: dict[str, Tensor]) -> Model:
    """Regress ``y ~ Normal(x @ beta, sigma)``, ``beta ~ Normal(0, 10)``, ``sigma ~ HalfNormal(10)``; no intercept.

    Args:
        data: ``x`` of shape ``[rows, 5]``, ``y`` of shape ``[rows]``.
    """
    x, observed = data["x"], data["y"]

    @random_variable
    def beta() -> Distribution:
        return Normal(x.new_zeros(x.shape[1]), 10.0)

    @random_variable
    def sigma() -> Distribution:
        return HalfNormal(x.new_tensor(10.0))

    @random_variable
    def y() -> Distribution:
        return Normal(x @ beta(), sigma())

    return Model(queries=[beta(), sigma()], observations={y(): observed})
