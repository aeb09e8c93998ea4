"""Arrival delays of 327,346 flights from New York in 2013: a linear regression whose posterior is known exactly."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, HalfNormal, Normal
from torch.nn.functional import one_hot

from vi_dist import Model, random_variable

ORIGINS, CARRIERS = 3, 16


def design(data: dict[str, Tensor]) -> Tensor:
    """Intercept, four standardised columns, and indicators of origin and carrier but their first: ``[flights, 22]``."""
    y = data["y"]
    parts = [torch.ones_like(y), data["dep_delay"], data["distance"], data["air_time"], data["sched_hour"]]
    origin = one_hot(data["origin"].long(), ORIGINS)[:, 1:]
    carrier = one_hot(data["carrier"].long(), CARRIERS)[:, 1:]
    return torch.cat((torch.stack(parts, 1), origin.to(y), carrier.to(y)), 1)


def build(data: dict[str, Tensor]) -> Model:
    """``b_j ~ Normal(0, 1)``, ``sigma ~ HalfNormal(1)``, ``y ~ Normal(X b, sigma)``; all 23 are global.

    Args:
        data: ``y`` (standardised arrival delay), ``dep_delay``, ``distance``, ``air_time``, ``sched_hour``
            (standardised), ``origin`` and ``carrier`` (codes); each of shape ``[flights]``.
    """
    x = design(data)

    @random_variable
    def b() -> Distribution:
        return Normal(x.new_zeros(x.shape[1]), 1.0)

    @random_variable
    def sigma() -> Distribution:
        return HalfNormal(x.new_tensor(1.0))

    @random_variable
    def y() -> Distribution:
        return Normal(x @ b(), sigma())

    return Model(queries=[b(), sigma()], observations={y(): data["y"]})
