"""The values of discrete guides, one after the other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import Size, Tensor
from torch.distributions import Distribution, Independent

from vi_dist.errors import ModelError
from vi_dist.model.identifier import RVIdentifier

MOST_COMBINATIONS = 256
"""Combinations of values over which an expectation is taken exactly: model and guides run once for each."""


class Fork(Exception):
    """A world has come to a guide that takes several values in turn."""

    def __init__(self, node: RVIdentifier, values: Sequence[Tensor]) -> None:
        super().__init__(str(node))
        self.node, self.values = node, values


def values_of(node: RVIdentifier, distribution: Distribution) -> list[Tensor]:
    """Every value of a guide's distribution, `(*batch, *event)` each: all combinations of its elements.

    Raises `ModelError` where they cannot be listed, or are too many.
    """
    cure = "use monte_carlo_approximate_mixed"
    each, batch = each_value(node, distribution, cure)
    places = math.prod(batch)
    if len(each) ** places > MOST_COMBINATIONS:
        raise ModelError(
            f"{node} has {len(each)}^{places} values, and at most {MOST_COMBINATIONS} are listed; {cure}",
            key="guide",
        )
    shape = (*batch, *each.shape[1:])
    return [
        each[list(chosen)].reshape(shape) for chosen in itertools.product(range(len(each)), repeat=places)
    ]


def base_of(distribution: Distribution) -> Distribution:
    """The distribution of each element."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution


def each_value(node: RVIdentifier, distribution: Distribution, cure: str) -> tuple[Tensor, Size]:
    """The values `(k, *event)` that each element of a distribution takes, and the elements' shape.

    Raises `ModelError` with the cure where they cannot be listed.
    """
    base = base_of(distribution)
    try:
        each = base.enumerate_support(expand=False)
    except NotImplementedError:
        raise ModelError(
            f"the values of {node}, a {type(base).__name__}, cannot be listed; {cure}", key="guide"
        ) from None
    return each.reshape(len(each), *base.event_shape), base.batch_shape
