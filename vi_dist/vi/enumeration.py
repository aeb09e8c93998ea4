"""The values of discrete guides, one after the other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from vi_dist.errors import ModelError
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.support import base_of

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
    return list(combinations(each, batch))


def combinations(each: Tensor, batch: Size) -> Tensor:
    """All values `(K, *batch, *event)` of elements that take `each` `(k, *event)`."""
    places = math.prod(batch)
    chosen = list(itertools.product(range(len(each)), repeat=places))
    numbers = torch.tensor(chosen, dtype=torch.int64, device=each.device).reshape(-1)
    return each[numbers].reshape(len(each) ** places, *batch, *each.shape[1:])


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
