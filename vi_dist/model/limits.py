"""Distributions whose parameters are at the end of their range, where a density may still be defined by continuity.

A Poisson count of rate 0 is 0 with probability 1, and torch gives that, but no gradient; the log density of a negative
binomial count of mean 0 is 0 times minus infinity. With the parameter slightly inside of its range both are at their
limit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent
from torch.distributions.constraints import Constraint, is_dependent, real

from vi_dist.model.log_density import log_density
from vi_dist.model.support import base_of, constraints_of

_TOLERANCE = 1e-6


def moved_inside(distribution: Distribution, power: float = 1.0) -> Distribution:
    """The distribution with parameters that are at an end of their range, infinite ones too, inside by very little.

    What depends on other values than the moved ones keeps its bits and its gradient; moved elements have gradient 0.

    Args:
        distribution: any; one that cannot be made of its parameters again comes back as it is.
        power: moved by the smallest normal number of the parameter's type to this power.
    """
    if isinstance(distribution, Independent):
        inner = moved_inside(distribution.base_dist, power)
        return Independent(inner, distribution.reinterpreted_batch_ndims)
    ranges, held = constraints_of(distribution), vars(distribution)
    moved = {name: _inside(value, ranges[name], power) for name, value in _parameters(distribution).items()}
    others = {name: held[name] for name in ranges if name in held and name not in moved}
    kind: type[Any] = type(distribution)
    try:
        again: Distribution = kind(**others, **moved, validate_args=False)
    except TypeError:
        return distribution
    return again


def at_end(distribution: Distribution) -> Tensor:
    """Whether any parameter of each element is at an end of its range, `(*batch)`."""
    base = base_of(distribution)
    found = torch.zeros(base.batch_shape, dtype=torch.bool)
    for name, value in _parameters(base).items():
        found = found | (_inside(value, constraints_of(base)[name], 1.0) != value)
    return found


def has_limit(distribution: Distribution, value: Tensor) -> Tensor:
    """Whether each element's log density has a finite limit as its parameters go to their ends, `(*batch)`."""
    near, nearer = (log_density(base_of(moved_inside(distribution, power)), value) for power in (0.5, 1.0))
    return near.isfinite() & ((near - nearer).abs() <= _TOLERANCE * (1 + near.abs()))


def _parameters(distribution: Distribution) -> dict[str, Tensor]:
    """The real parameters that have a range of their own, element by element."""
    found = {}
    for name, constraint in constraints_of(distribution).items():
        value = vars(distribution).get(name)
        if is_dependent(constraint) or constraint.is_discrete or constraint.event_dim:
            continue
        if (
            isinstance(value, Tensor)
            and value.is_floating_point()
            and value.dim() <= len(distribution.batch_shape)
        ):
            found[name] = value
    return found


def _inside(value: Tensor, constraint: Constraint, power: float) -> Tensor:
    least = torch.finfo(value.dtype).tiny ** power
    if constraint is real:
        largest = -torch.log(torch.tensor(least, dtype=value.dtype, device=value.device))
        return torch.where(value.isinf(), torch.copysign(largest, value), value)
    for name, sign in (("lower_bound", 1), ("upper_bound", -1)):
        bound = getattr(constraint, name, None)
        if isinstance(bound, int | float):
            inside = bound + sign * (least if bound == 0 else torch.finfo(value.dtype).eps)
            value = torch.where(value == bound, torch.full_like(value, inside), value)
    return value
