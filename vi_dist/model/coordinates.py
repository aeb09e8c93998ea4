"""A distribution's value and density at unconstrained coordinates."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.distributions import Distribution, Independent, TransformedDistribution
from torch.distributions.utils import _sum_rightmost as sum_rightmost

from vi_dist.model.log_density import log_density
from vi_dist.model.support import base_of, bijection_of, inherits_support


@dataclass(frozen=True)
class Point:
    """A distribution's value at some coordinates.

    Attributes:
        value: of the distribution, `(*batch, *event)`.
        log_prob: log density of the value, `(*batch)`.
        log_density: log density of the coordinates, `(*batch)`: what the map's determinant adds is in it.
    """

    value: Tensor
    log_prob: Tensor
    log_density: Tensor


def at_coordinates(distribution: Distribution, coordinates: Tensor) -> Point:
    """A distribution's value and densities at coordinates, without inverting any of its transforms.

    The inverse of a transform loses digits that its argument has: 100 + 1e-9 is 100 in single precision. For the same
    reason the density of the coordinates is that of the base, to which transforms add nothing.
    """
    if isinstance(distribution, Independent):
        inner = at_coordinates(distribution.base_dist, coordinates)
        rank = distribution.reinterpreted_batch_ndims
        return Point(inner.value, sum_rightmost(inner.log_prob, rank), sum_rightmost(inner.log_density, rank))
    if not goes_through_transforms(distribution):
        transform = bijection_of(distribution)
        value = transform(coordinates)
        log_prob = log_density(distribution, value)
        logs = transform.log_abs_det_jacobian(coordinates, value)
        return Point(value, log_prob, log_prob + sum_rightmost(logs, logs.dim() - log_prob.dim()))
    assert isinstance(distribution, TransformedDistribution)
    base = at_coordinates(distribution.base_dist, coordinates)
    ranks = [len(distribution.event_shape)]  # of an event before each transform and after the last one
    for transform in reversed(distribution.transforms):
        ranks.insert(0, ranks[0] + transform.domain.event_dim - transform.codomain.event_dim)
    more = ranks[0] - len(distribution.base_dist.event_shape)
    value, log_prob = base.value, sum_rightmost(base.log_prob, more)
    for transform, rank in zip(distribution.transforms, ranks, strict=False):
        argument, value = value, transform(value)
        logs = transform.log_abs_det_jacobian(argument, value)
        # Not by the transform's own count of dimensions: a StackTransform's logs are one more than it says.
        log_prob = log_prob - sum_rightmost(logs, logs.dim() - (argument.dim() - rank))
    return Point(value, log_prob, sum_rightmost(base.log_density, more))


def goes_through_transforms(distribution: Distribution) -> bool:
    """Whether its coordinates are its base's, and its density is the one that its transforms give."""
    base = base_of(distribution)
    return (
        isinstance(base, TransformedDistribution)
        and inherits_support(base)
        and type(base).log_prob is TransformedDistribution.log_prob
    )
