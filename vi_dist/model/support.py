"""Where the values of a distribution are, and the bijection onto that set from unconstrained coordinates."""

from __future__ import annotations

import torch
from torch.distributions import (
    Distribution,
    Independent,
    MixtureSameFamily,
    TransformedDistribution,
    VonMises,
    biject_to,
)
from torch.distributions.constraints import Constraint, MixtureSameFamilyConstraint, independent
from torch.distributions.transforms import Transform

import vi_dist.model.bijections  # noqa: F401 - what it registers with biject_to is used wherever supports are
from vi_dist.model.circle import circle
from vi_dist.model.image import Image


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
        return _of_transformed(distribution) if inherits_support(distribution) else stated
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
        angle = circle(first)
        return independent(angle, len(components.event_shape)) if components.event_shape else angle
    inner = support_of(components)
    return None if inner is None else MixtureSameFamilyConstraint(inner)


def inherits_support(distribution: TransformedDistribution) -> bool:
    """Whether its class leaves the support to `TransformedDistribution`, where LogNormal and others state their own."""
    return type(distribution).support is TransformedDistribution.support
