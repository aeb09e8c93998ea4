"""Replicated observations: the model run at given latents, its observed variables drawn instead of looked up."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributions import Distribution

from vi_dist.errors import ModelError
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.model import Model
from vi_dist.model.seeding import fixed_seed
from vi_dist.vi.density import Density, FlatWorld
from vi_dist.vi.layout import Layout


class PredictiveWorld(FlatWorld):
    """A `FlatWorld` in which observed variables are drawn from their distributions.

    What depends on an observed variable depends here on what was drawn for it.
    """

    def __init__(
        self, model: Model, layout: Layout, flat: Tensor, discrete: Mapping[RVIdentifier, Tensor]
    ) -> None:
        super().__init__(model, layout, flat, discrete)
        self._seen, self.observations = self.observations, {}

    def _initial_value(self, node: RVIdentifier, distribution: Distribution) -> Tensor:
        if node not in self._seen:
            return super()._initial_value(node, distribution)
        try:
            return _drawn(distribution, self._seen[node].shape)
        except NotImplementedError as error:
            raise ModelError(
                f"{node} cannot be predicted: its {type(distribution).__name__} has a density but cannot be drawn from",
                key="observations",
            ) from error


def replicate(model: Model, layout: Layout, rows: Tensor, seed: int) -> dict[str, Tensor]:
    """One replication `(n, *shape)` of every observed variable, by name, per row of coordinates and params `(n, D)`.

    Replication k depends on its row, `seed` and k only; torch's global generators are left as they were. The model
    runs once per row. Raises `ModelError` for a variable that cannot be drawn.
    """
    drawn: list[list[Tensor]] = [[] for _ in model.observations]
    density = Density(model, layout)
    with fixed_seed(), torch.no_grad():
        for place, row in enumerate(rows):
            torch.manual_seed(_seed(seed, place))
            world = PredictiveWorld(model, layout, row, density.discrete(row))
            for values, node in zip(drawn, model.observations, strict=True):
                values.append(torch.as_tensor(world.call(node)))
    return {str(node): torch.stack(values) for node, values in zip(model.observations, drawn, strict=True)}


def _drawn(distribution: Distribution, shape: torch.Size) -> Tensor:
    """One draw in the shape of what was observed, which a smaller distribution is repeated for."""
    own = distribution.batch_shape + distribution.event_shape
    if own.numel() != shape.numel():
        distribution = distribution.expand(shape[: len(shape) - len(distribution.event_shape)])
    return distribution.sample().reshape(shape)


def _seed(seed: int, place: int) -> int:
    """A seed of its own for every replication, so that it does not matter how many come before it."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {place}".encode(), digest_size=7).digest(), "little")
