"""A shard's model with batches of its rows as inputs, and whether a batch says what it should of all rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vi_dist.errors import ModelError
from vi_dist.model.data import Data
from vi_dist.model.model import Model
from vi_dist.vi.batch_density import BatchDensity
from vi_dist.vi.batches import Batches
from vi_dist.vi.context import model_context
from vi_dist.vi.guides.family import fixed_normals
from vi_dist.vi.layout import Layout

TOLERANCE = 1e-7
"""Of the log density of all rows against that of its parts, relative."""


def add_up(whole: Tensor, parts: list[Tensor]) -> bool:
    """Whether the log densities of parts of the rows are that of all of them, up to rounding."""
    scale = whole.abs() + sum(part.abs() for part in parts)
    return bool((torch.stack(parts).sum() - whole).abs() <= TOLERANCE * scale)


def probe(start: Tensor) -> Tensor:
    """A place `(D,)` near `start` at which sums are compared: another shift for each coordinate.

    One shift for all of them would not tell a latent of one category from that of another.
    """
    return start + 0.1 * fixed_normals("probe", tuple(start.shape), start)


def not_additive(whole: Tensor, parts: list[Tensor], key: str, rest: str) -> ModelError:
    """The error where they do not; `rest` ends its sentence."""
    return ModelError(
        f"the log density of the rows is {float(whole):.8g}, and of two parts of them {float(sum(parts)):.8g} "
        "together: build computes something of all its rows, for example a mean, or a row depends on others; put "
        f"what it computes into the data, {rest}",
        key=key,
    )


def row_columns(data: Data) -> dict[str, Tensor]:
    """The columns that follow the rows; strings are none, for no graph can take them."""
    return {
        name: column for name, column in data.usable().items() if isinstance(column, Tensor) and column.dim()
    }


def batch_density(
    build: Callable[[dict[str, Any]], Model],
    data: Data,
    layout: Layout,
    batches: Batches,
    *,
    jacobian: bool = True,
    owner: bool = True,
) -> BatchDensity:
    """The density of batches of a shard's rows. Raises `ModelError` for latents that belong to rows."""
    if layout.local:
        raise ModelError(
            f"{layout.local[0].name} belongs to rows, and a batch would train the latents of its own rows alone; "
            "leave batch_size out, or sum these latents out of the model",
            key="batch_size",
        )
    columns = row_columns(data)
    scalars = {
        name: value for name, value in data.usable().items() if isinstance(value, Tensor) and not value.dim()
    }
    return BatchDensity(build, layout, tuple(columns), scalars, batches.scale, jacobian, owner)


def check_additive(density: BatchDensity, batches: Batches, flat: Tensor) -> None:
    """Raise `ModelError` where two parts of the rows do not add up to the whole, at `flat` `(D,)`, float64.

    A `build` that takes a mean of its data, or whose rows depend on each other, gives another model for every batch.
    """
    order = batches.order(0)
    with model_context(flat.dtype, flat.device), torch.no_grad():
        prior, whole = density.parts(flat, *batches.columns)
        parts = [
            density.parts(flat, *batches.take(rows))
            for rows in (order[: batches.size], order[batches.size :])
        ]
    if not add_up(whole, [rows for _, rows in parts]):
        raise not_additive(whole, [rows for _, rows in parts], "batch_size", "or leave batch_size out")
    if any(not bool((other - prior).abs() <= TOLERANCE * (1 + prior.abs())) for other, _ in parts):
        raise ModelError(
            "the prior of the latents changes with the rows that build gets; let it depend on none, or leave "
            "batch_size out",
            key="batch_size",
        )
