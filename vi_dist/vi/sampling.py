"""Draws from a fitted guide: from noise to the flat vector, and from there to the model's own space."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import GraphModule

from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density
from vi_dist.vi.graph import trace
from vi_dist.vi.guides.family import Family
from vi_dist.vi.noise import SAMPLING, NormalSource

log = logging.getLogger(__name__)

# Draws made at once.
BATCH = 1024


def draw_flat(family: Family, leaves: Mapping[str, Tensor], params: Tensor, n: int, seed: int = 0) -> Tensor:
    """n draws `(n, D)` of one guide's coordinates, followed by the model's params; draw k depends on seed and k only.

    Leaves and params `(p,)` come without a leading axis of configurations.
    """
    source = NormalSource(family.noise, [seed], params.dtype, params.device)
    step = torch.zeros(1, 1, device=params.device)
    batched = {name: leaf[None] for name, leaf in leaves.items()}
    parts = []
    with torch.no_grad():
        for first in range(0, n, BATCH):
            count = min(BATCH, n - first)
            z = family.draw(batched, source(SAMPLING, step, count, first)[0])[0]
            parts.append(torch.cat((z, params.expand(count, -1)), -1))
    return torch.cat(parts) if parts else params.new_zeros(0, family.size + params.shape[0])


@dataclass(frozen=True)
class Constrain:
    """Flat vectors to values of the queries, functionals included; flat graph where the model can be traced."""

    one: Callable[[Tensor], Mapping[str, Tensor]]
    graph: GraphModule | None

    def __call__(self, rows: Tensor) -> dict[str, Tensor]:
        """Values by name, `(n, *shape)`, of rows `(n, D)`."""
        with torch.no_grad():
            return constrain_rows(self.graph, rows) if self.graph is not None else _loop(self.one, rows)


def make_constrain(density: Density, flat: Tensor) -> Constrain:
    """The map from flat vectors to queries, traced at `flat` `(D,)` and checked there; a loop where tracing fails."""

    def one(row: Tensor) -> Mapping[str, Tensor]:
        with model_context(row.dtype, row.device):
            return density.constrain(row)

    try:
        with model_context(flat.dtype, flat.device):
            # A plain function: tracing counts the self of a bound method among the inputs.
            graph = trace(lambda row: density.constrain(row), flat)  # noqa: PLW0108
        moved = flat + 0.25
        traced, plain = constrain_rows(graph, moved[None]), one(moved)
        if all(torch.allclose(traced[name][0], plain[name], rtol=1e-3, equal_nan=True) for name in plain):
            return Constrain(one, graph)
        log.warning("the queries read a value in Python; sampling runs the model once per draw")
    except Exception as error:  # tracing can fail in as many ways as there are models
        log.warning("the queries cannot be traced (%s); sampling runs the model once per draw", error)
    return Constrain(one, None)


def constrain_rows(graph: Callable[[Tensor], Mapping[str, Tensor]], rows: Tensor) -> dict[str, Tensor]:
    """Apply a traced map to rows `(n, D)`."""
    return dict(torch.vmap(graph)(rows))


def _loop(one: Callable[[Tensor], Mapping[str, Tensor]], rows: Tensor) -> dict[str, Tensor]:
    values = [one(row) for row in rows]
    return {name: torch.stack([value[name] for value in values]) for name in values[0]} if values else {}
