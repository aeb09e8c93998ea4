"""What a distribution says of its values: where they live, whether they are discrete, what its elements are."""

from __future__ import annotations

from torch.distributions import Distribution, Independent
from torch.distributions.constraints import Constraint

import vi_dist.model.bijections  # noqa: F401 - what it registers with biject_to is used wherever supports are


def support_of(distribution: Distribution) -> Constraint | None:
    """A distribution's support, or None where it states none."""
    try:
        support: Constraint | None = distribution.support
    except NotImplementedError:
        return None
    return support


def is_discrete(distribution: Distribution) -> bool:
    """Whether it states a support of separate values."""
    support = support_of(distribution)
    return support is not None and bool(support.is_discrete)


def base_of(distribution: Distribution) -> Distribution:
    """The distribution of each element, without the axes that were merely declared to belong together."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution
