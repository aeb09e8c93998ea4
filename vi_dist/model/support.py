"""Where the values of a distribution are, and the bijection onto that set from unconstrained coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    MixtureSameFamily,
    TransformedDistribution,
    VonMises,
    biject_to,
)
from torch.distributions.constraints import Constraint, independent
from torch.distributions.transforms import Transform

from vi_dist.model.circle import circle
from vi_dist.model.image import Image

import vi_dist.model.bijections  # noqa: F401 - what it registers with biject_to is used wherever supports are


def support_of(distribution: Distribution) -> Constraint | None:
    """The set of a distribution's values, or None where it states none.

    It is what the distribution states, but for two kinds that torch states too widely. A `TransformedDistribution`
    states the codomain of its last transform; here it is the image of its base's support. A von Mises distribution
    states the real line; here it is one period around its location. Both are found inside of `Independent`, a mixture
    of one family, and other wrappers that have a `base_dist` and state its support.
    """
    try:
        stated: Constraint | None = distribution.support
    except NotImplementedError:
        return None
    if isinstance(distribution, VonMises):
        return circle(distribution.loc)
    if isinstance(distribution, TransformedDistribution):
        return _of_transformed(distribution) if _inherits_support(distribution) else stated
    if isinstance(distribution, Independent):
        inner = support_of(distribution.base_dist)
        return None if inner is None else independent(inner, distribution.reinterpreted_batch_ndims)
    if isinstance(distribution, MixtureSameFamily):
        return _of_mixture(distribution)
    base = getattr(distribution, "base_dist", None)
    if isinstance(base, Distribution) and type(stated) is type(base.support):
        return support_of(base)
    return stated


def bijection_of(distribution: Distribution) -> Transform:
    """The bijection from unconstrained coordinates onto the support of a distribution, the same wherever it is asked.

    Raises `NotImplementedError` where there is none: no support, a discrete one, or one unknown to torch's registry
    `torch.distributions.biject_to`.
    """
    support = support_of(distribution)
    if support is None:
        raise NotImplementedError(f"{type(distribution).__name__} states no support")
    bijection: Transform = biject_to(support)
    return bijection


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
        log_prob = distribution.log_prob(value)
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


def sum_rightmost(value: Tensor, dimensions: int) -> Tensor:
    """The sum over the last `dimensions` dimensions."""
    return value.flatten(value.dim() - dimensions).sum(-1) if dimensions > 0 else value


def goes_through_transforms(distribution: Distribution) -> bool:
    """Whether its coordinates are its base's, and its density is the one that its transforms give."""
    base = base_of(distribution)
    return (
        isinstance(base, TransformedDistribution)
        and _inherits_support(base)
        and type(base).log_prob is TransformedDistribution.log_prob
    )


def is_discrete(distribution: Distribution) -> bool:
    """Whether the support of a distribution is one of separate values."""
    support = support_of(distribution)
    return support is not None and bool(support.is_discrete)


def base_of(distribution: Distribution) -> Distribution:
    """The distribution of each element, without the axes that were merely declared to belong together."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution


def constraints_of(distribution: Distribution) -> dict[str, Constraint]:
    """What a distribution demands of its parameters, by their names; nothing where it does not say."""
    try:
        return dict(distribution.arg_constraints)
    except NotImplementedError:
        return {}


def unconstrained_shape(distribution: Distribution, transform: Transform) -> torch.Size:
    """The shape of the coordinates that the transform maps to one draw of the distribution."""
    return torch.Size(transform.inverse_shape(distribution.batch_shape + distribution.event_shape))


def _of_transformed(distribution: TransformedDistribution) -> Constraint | None:
    base = support_of(distribution.base_dist)
    if base is None or not distribution.transforms:
        return base
    return Image(base, distribution.transforms, len(distribution.event_shape))


def _of_mixture(distribution: MixtureSameFamily) -> Constraint | None:
    """The components' support; of components on a circle, a period around the first one's location."""
    components = distribution.component_distribution
    if isinstance(angles := base_of(components), VonMises):
        first = angles.loc.movedim(-1 - len(components.event_shape), 0)[0]
        inner = circle(first)
        return independent(inner, len(components.event_shape)) if components.event_shape else inner
    stated: Constraint = distribution.support
    return stated


def _inherits_support(distribution: TransformedDistribution) -> bool:
    """Whether its class leaves the support to `TransformedDistribution`, where LogNormal and others state their own."""
    return type(distribution).support is TransformedDistribution.support
