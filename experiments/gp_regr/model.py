"""A Gaussian process through eleven points: its length scale, its amplitude and the variance of the noise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Gamma, HalfNormal, MultivariateNormal

from vi_dist import Model, random_variable


def build(data: dict[str, Tensor]) -> Model:
    """Let ``y`` be multivariate normal with a squared-exponential covariance and noise of variance ``sigma``.

    ``rho ~ Gamma(25, 4)``, ``alpha ~ HalfNormal(2)``, ``sigma ~ HalfNormal(1)`` and
    ``covariance[i, j] = alpha^2 * exp(-(x[i] - x[j])^2 / (2 * rho^2)) + sigma * (i == j)``.

    Args:
        data: ``x`` and ``y`` of shape ``[points]``.
    """
    x, y = data["x"], data["y"]
    squared = (x[:, None] - x[None]) ** 2
    identity = torch.eye(len(x), dtype=x.dtype, device=x.device)

    @random_variable
    def rho() -> Distribution:
        return Gamma(x.new_tensor(25.0), 4.0)

    @random_variable
    def alpha() -> Distribution:
        return HalfNormal(x.new_tensor(2.0))

    @random_variable
    def sigma() -> Distribution:
        return HalfNormal(x.new_tensor(1.0))

    @random_variable
    def outcome() -> Distribution:
        smooth = alpha() ** 2 * torch.exp(-0.5 * squared / rho() ** 2)
        return MultivariateNormal(torch.zeros_like(y), smooth + sigma() * identity)

    return Model(queries=[rho(), alpha(), sigma()], observations={outcome(): y})
