"""Whether what a model says of its rows is what it says of two parts of them, added up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vi_dist.cluster.batching import add_up, not_additive, probe
from vi_dist.cluster.prepared import PreparedModel, cut_rows
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.sharding import check_sharded
from vi_dist.model.shard_rows import ShardRows, shard_rows
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density

if TYPE_CHECKING:
    from vi_dist.model.data import Data

ROWS = 20_000
"""Rows that are looked at, at most: enough for every category of a column, as a rule, and a matter of milliseconds."""


def check_shards_add_up(setup: Setup) -> None:
    """Raise `ModelError` where shards would not add up to the model, found by cutting rows of the first one in two.

    A `build` that takes a mean of its data, or whose rows depend on each other, gives another model for every cut.
    Nothing is said where the parts have other latents than the whole, as where a category has no row in one of them.
    """
    assert setup.shards is not None, "a setup with shards"
    group_by, rows = setup.shards.group_by, _thinned(cut_rows(setup, 0))
    whole = _prepared(setup, shard_rows(rows, 0, 1, group_by), 0)
    if setup.shards.count == 1 or whole.rows is None or len(whole.rows.ids) < 2:
        return
    parts = [_prepared(setup, shard_rows(rows, rank, 2, group_by), rank) for rank in range(2)]
    for part in parts:
        assert part.rows is not None, "a setup with shards"
        with model_context(part.dtype, part.device):
            check_sharded(part.model, part.rows)
    if any(shared_shapes(part) != shared_shapes(whole) for part in parts):
        return
    flat = probe(whole.start)
    expected = _value(whole, flat)
    found = [_value(part, _of_part(part, whole, flat)) for part in parts]
    if expected.isfinite() and not add_up(expected, found):
        raise not_additive(expected, found, "shards", "for a shard's build sees its own rows alone")


def _thinned(rows: ShardRows) -> Data:
    """Some of the rows, evenly spaced."""
    step = -(-rows.rows // ROWS)
    return rows.data.map(lambda _, column: column[::step] if column.ndim else column)


def shared_shapes(prepared: PreparedModel) -> dict[str, tuple[int, ...]]:
    """Shapes by name of the latents and params that all shards share."""
    return {site.name: tuple(site.shape) for site in (*prepared.layout.latents, *prepared.layout.params)}


def _prepared(setup: Setup, rows: ShardRows, rank: int) -> PreparedModel:
    return PreparedModel(replace(setup, data=rows, holdout=None), torch.float64, rank=rank)


def _value(prepared: PreparedModel, flat: Tensor) -> Tensor:
    with model_context(prepared.dtype, prepared.device), torch.no_grad():
        return Density(prepared.model, prepared.layout, owner=prepared.rank == 0)(flat)


def _of_part(part: PreparedModel, whole: PreparedModel, flat: Tensor) -> Tensor:
    """The coordinates of a part's latents among those of all rows."""
    assert part.rows is not None, "a setup with shards"
    named = {site.name: site.take(flat) for site in whole.layout.local}
    local = [named[site.name][part.rows.ids].reshape(-1) for site in part.layout.local]
    shared = whole.layout.size + whole.layout.eta.shape[0]
    return torch.cat((flat[:shared], *local))
