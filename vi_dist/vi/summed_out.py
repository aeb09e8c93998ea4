"""Discrete latents of few values: a density sums over these, so that guides see continuous coordinates alone.

All combinations of values are listed. Where that would be too many, as of the classes of a mixture's rows, and the
elements of the discrete latents act one by one, the sum over combinations is a product over elements of sums: the
model then runs once for every value that an element can take, all elements at the same value.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vi_dist.errors import ModelError
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.variable import Variable
from vi_dist.vi.enumeration import MOST_COMBINATIONS, combinations, each_value
from vi_dist.vi.noise import threefry, uniform

CURE = (
    "sum it out of the model by hand, as experiments/hmm_example does, or use VariationalInfer with "
    "monte_carlo_approximate_mixed and a guide for it"
)
# The key under which a discrete latent's value is drawn: not one of a fit's purposes.
_KEY = 102


@dataclass(frozen=True)
class SummedOut:
    """The discrete latents of a model and the K values of each that a density sums over.

    Attributes:
        nodes: the latents.
        values: of each, `(K, *shape)`; value k of one goes with value k of the others.
        elements: the values of one element of each latent, `(k, *event)`.
        shape: of the elements that are summed one by one, `()` where all elements together take K values.
        one_by_one: the K values of all latents, each a tensor of its own. They are made here and not where they are
            used, which may be traced: so they are constants, which a model's Python may read.
    """

    nodes: tuple[RVIdentifier, ...]
    values: tuple[Tensor, ...]
    elements: tuple[Tensor, ...]
    shape: torch.Size
    one_by_one: tuple[tuple[Tensor, ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        rows = tuple(tuple(value.clone() for value in row) for row in zip(*self.values, strict=True))
        object.__setattr__(self, "one_by_one", rows)

    @property
    def names(self) -> str:
        """The latents, for a message."""
        return ", ".join(map(str, self.nodes))

    def __str__(self) -> str:
        each = f" for each of {math.prod(self.shape)} elements" if self.shape else ""
        return f"{self.names} ({len(self.one_by_one)} values{each})"

    def pick(self, weights: Tensor, flat: Tensor) -> dict[RVIdentifier, Tensor]:
        """A value of every latent, element by element value k with probability softmax of weights `(K, *shape)`.

        Which one is a function of the weights and of `flat` `(D,)`, whose bits are hashed: the same draw of the
        continuous coordinates always comes with the same values.
        """
        below = torch.softmax(weights, 0).cumsum(0) < _uniforms(flat, self.shape)
        chosen = below.sum(0).clamp_max(weights.shape[0] - 1)
        return self.take(chosen)

    def take(self, chosen: Tensor) -> dict[RVIdentifier, Tensor]:
        """Of every latent, element by element, the value with the number that is chosen, `(*shape)`."""
        return {node: _taken(value, chosen) for node, value in zip(self.nodes, self.values, strict=True)}


def sum_out(latents: Mapping[RVIdentifier, Variable]) -> SummedOut:
    """How discrete latents, as they are in some world, are summed out.

    Raises `ModelError` for values that cannot be listed, and too many of them.
    """
    listed = {node: each_value(node, latent.distribution, CURE) for node, latent in latents.items()}
    counts = {node: len(each) ** math.prod(batch) for node, (each, batch) in listed.items()}
    shapes = [batch for _, batch in listed.values()]
    elements = tuple(each for each, _ in listed.values())
    if math.prod(counts.values()) <= MOST_COMBINATIONS:
        together = [combinations(each, batch) for each, batch in listed.values()]
        return SummedOut(tuple(listed), _products(together), elements, torch.Size())
    same = [each.reshape(len(each), *[1] * len(batch), *each.shape[1:]) for each, batch in listed.values()]
    if len(set(shapes)) > 1 or math.prod(map(len, same)) > MOST_COMBINATIONS:
        raise ModelError(
            f"{_listing(listed)} {'have' if len(listed) > 1 else 'has'} more than {MOST_COMBINATIONS} combinations of "
            f"values, which are not summed over; {CURE}",
            key="queries",
        )
    values = [
        value.expand(len(value), *shape, *value.shape[1 + len(shape) :])
        for value, shape in zip(_products(same), shapes, strict=True)
    ]
    return SummedOut(tuple(listed), tuple(values), elements, shapes[0])


def _products(values: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Values of several latents `(k, ...)` side by side, `(K, ...)`, in all combinations."""
    rows = list(itertools.product(*(range(len(value)) for value in values)))
    places = torch.tensor(rows)
    return tuple(value[places[:, k].to(value.device)] for k, value in enumerate(values))


def _listing(listed: Mapping[RVIdentifier, tuple[Tensor, torch.Size]]) -> str:
    return ", ".join(
        f"{node} ({len(each)}^{math.prod(batch)} values)" for node, (each, batch) in listed.items()
    )


def _taken(values: Tensor, chosen: Tensor) -> Tensor:
    """Of values `(K, *shape, *event)` for each element the one that is chosen, `(*shape, *event)`."""
    event = values.dim() - 1 - chosen.dim()
    index = chosen.reshape(1, *chosen.shape, *[1] * event).expand(1, *values.shape[1:])
    return torch.gather(values, 0, index)[0]


def _uniforms(flat: Tensor, shape: torch.Size) -> Tensor:
    """Numbers in (0, 1] `(*shape)` from the bits of a vector."""
    words = flat.detach().contiguous().view(torch.int32)
    place = torch.arange(words.shape[0], dtype=torch.int32, device=flat.device)
    zero = torch.zeros_like(place[:1])
    one, other = threefry((zero + _KEY, zero), (words, place))
    # Sums wrap around: one key of all words.
    key = one.sum(0, dtype=torch.int32, keepdim=True), other.sum(0, dtype=torch.int32, keepdim=True)
    element = torch.arange(math.prod(shape), dtype=torch.int32, device=flat.device)
    return uniform(threefry(key, (element, torch.zeros_like(element)))[0], flat.dtype).reshape(shape)
