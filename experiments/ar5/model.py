"""An autoregressive process of order 5: 200 simulated values, 7 parameters."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, HalfCauchy, Normal

from vi_dist import Model, random_variable

ORDER = 5


def build(data: dict[str, Tensor]) -> Model:
    """Regress each value on the five before it: ``y[t] ~ Normal(alpha + sum_k beta[k] * y[t - 1 - k], sigma)``.

    ``alpha, beta ~ Normal(0, 10)`` and ``sigma ~ HalfCauchy(2.5)``; the first five values are given.

    Args:
        data: ``y`` of shape ``[times]``.
    """
    y = data["y"]
    later = y[ORDER:]
    before = torch.stack([y[ORDER - k : len(y) - k] for k in range(1, ORDER + 1)], dim=1)

    @random_variable
    def alpha() -> Distribution:
        return Normal(y.new_tensor(0.0), 10.0)

    @random_variable
    def beta() -> Distribution:
        return Normal(y.new_zeros(ORDER), 10.0)

    @random_variable
    def sigma() -> Distribution:
        return HalfCauchy(y.new_tensor(2.5))

    @random_variable
    def value() -> Distribution:
        return Normal(alpha() + before @ beta(), sigma())

    return Model(queries=[alpha(), beta(), sigma()], observations={value(): later})
