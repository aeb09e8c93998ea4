"""How a world gives a latent its first value."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from vi_dist.model.support import bijection_of, support_of

InitializeFn = Callable[[Distribution], Tensor]


def init_from_prior(distribution: Distribution) -> Tensor:
    """A draw from the distribution itself, without gradient."""
    return distribution.sample()


def init_to_uniform(distribution: Distribution) -> Tensor:
    """A draw uniform in (-2, 2) of the unconstrained space; for discrete distributions uniform over the support.

    Discrete distributions that cannot list their support are drawn from themselves.
    """
    value = distribution.sample()
    if distribution.has_enumerate_support:
        choices = distribution.enumerate_support(expand=False)
        event = distribution.event_shape
        choices = choices.reshape(-1, *event)
        batch = value.shape[: value.dim() - len(event)]
        return choices[torch.randint(len(choices), batch, device=value.device)]
    support = support_of(distribution)
    if support is None or support.is_discrete:
        return value
    transform = bijection_of(distribution)
    uniform: Tensor = transform(torch.rand_like(transform.inv(value)) * 4 - 2)
    return uniform
