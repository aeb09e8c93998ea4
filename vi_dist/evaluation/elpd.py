"""The expected log predictive density of rows that a guide was not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vi_dist.errors import ModelError
from vi_dist.model.log_density import log_density
from vi_dist.model.support import base_of
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density, FlatWorld
from vi_dist.vi.graph import trace
from vi_dist.vi.guides.family import Family
from vi_dist.vi.noise import EVALUATION, NormalSource
from vi_dist.vi.summed_joint import Reduce, total

# Numbers of log densities made at once: draws times rows.
AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Elpd:
    """sum over rows i of log mean_s p(y_i | z_s), and its standard error, the rows taken as independent draws."""

    value: float
    se: float


def row_log_densities(density: Density, flat: Tensor) -> Tensor:
    """log p(y_i | z) of every observed row `(rows,)` at flat `(D,)`, summed over observed variables.

    Raises `ModelError` for an observed variable whose density is not a sum over rows.
    """
    world = FlatWorld(density.model, density.layout, flat)
    with world:
        for variable in density.model.observations:
            world.call(variable)
    total: Tensor | None = None
    for variable in density.model.observations:
        node = world.get_variable(variable)
        rows = node.value.shape[0]
        each = log_density(base_of(node.distribution), node.value)
        if not each.dim() or each.shape[0] != rows:
            raise ModelError(
                f"the density of {variable} is not one for each of its {rows} rows "
                f"(its distribution {type(node.distribution).__name__} has batch shape "
                f"{tuple(node.distribution.batch_shape)}), so rows cannot be held out; delete holdout",
                key="holdout",
            )
        summed = each.reshape(rows, -1).sum(1)
        total = summed if total is None else total + summed
    assert total is not None
    return total


def summed(each: Sequence[Tensor], reduce: Reduce = total) -> Elpd:
    """The score from what rows have, `(rows,)` of every shard in this process, added up over all shards."""
    counted = [torch.stack((one.new_tensor(float(one.numel())), one.sum())) for one in each]
    rows, value = map(float, reduce(counted))
    spread = float(reduce([(one - value / rows).square().sum().reshape(1) for one in each]))
    return Elpd(value, math.sqrt(rows * spread / (rows - 1)) if rows > 1 else math.nan)


class HeldOut:
    """Scores guides by the rows that a model has observed, on the noise of the common evaluation.

    Args:
        density: of the model that observes the held-out rows; its latents are those of the guides.
        start: coordinates at which it can be traced, `(D,)`, float64.
        samples: draws of each guide, the same for all.
    """

    def __init__(self, density: Density, start: Tensor, samples: int) -> None:
        self._one = self._plain = _in_context(density, start)
        self._rows = int(self._plain(start).shape[0])
        self._samples = samples
        try:
            with model_context(start.dtype, start.device):
                graph = trace(lambda flat: row_log_densities(density, flat), start)
            moved = start + 0.25
            self._batched = torch.allclose(graph(moved), self._plain(moved), rtol=1e-8, equal_nan=True)
            self._one = graph if self._batched else self._plain
        except Exception:  # tracing can fail in as many ways as there are models; the joint's has told how
            self._batched = False

    def __call__(self, family: Family, leaves: Mapping[str, Tensor], model_params: Tensor) -> Elpd:
        """The score of one guide: leaves without the axis of configurations, the model's own params `(p,)`."""
        return summed([self.each(family, leaves, model_params)])

    def each(self, family: Family, leaves: Mapping[str, Tensor], model_params: Tensor) -> Tensor:
        """log mean_s p(y_i | z_s) of every row `(rows,)` under one guide; see `__call__`."""
        source = NormalSource(family.noise, [0], torch.float64)
        batch = {name: leaf[None].to(torch.float64) for name, leaf in leaves.items()}
        params = model_params.to(torch.float64)
        mass = torch.full((self._rows,), -math.inf, dtype=torch.float64)
        at_once = max(1, AT_ONCE // max(1, self._rows))
        with torch.no_grad():
            for first in range(0, self._samples, at_once):
                count = min(at_once, self._samples - first)
                z = family.draw(batch, source(EVALUATION, torch.zeros(1, 1), count, first)[0])[0]
                found = self._of_rows(torch.cat((z, params.expand(count, -1)), -1))
                mass = torch.logaddexp(mass, found.logsumexp(0))
        return mass - math.log(self._samples)

    def _of_rows(self, flat: Tensor) -> Tensor:
        """Log densities `(B, rows)` at flat vectors `(B, D)`."""
        if self._batched:
            return torch.vmap(self._one)(flat)
        return torch.stack([self._one(row) for row in flat])


def _in_context(density: Density, start: Tensor) -> Callable[[Tensor], Tensor]:
    def plain(flat: Tensor) -> Tensor:
        with model_context(start.dtype, start.device):
            return row_log_densities(density, flat)

    return plain
