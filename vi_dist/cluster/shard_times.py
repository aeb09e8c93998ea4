"""Where the time of a step of shards went, and what it carried; for MLflow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vi_dist.cluster.prepared import PreparedModel
from vi_dist.vi.shards import ShardGroup
from vi_dist.vi.summed_joint import Reduce


def told(
    group: ShardGroup, ranks: Sequence[int], count: int, prepared: Sequence[PreparedModel], reduce: Reduce
) -> dict[str, float]:
    """Shards, rows, bytes and microseconds of a step; of each shard its own, gathered by a sum.

    Args:
        group: has taken steps.
        ranks: numbers of the shards in this process, of `count`.
        prepared: the model on the rows of each of them.
        reduce: the sum over all shards.
    """
    times, parts = group.times, []
    for rank in ranks:
        slots = torch.zeros(2, count, dtype=torch.float64)
        slots[:, rank] = torch.tensor([times.compute, times.reduce], dtype=torch.float64) / len(ranks)
        parts.append(slots)
    compute, reduced = reduce(parts) / max(1, times.steps) * 1e6
    # The last to arrive waits for nobody: what it takes is the reduction itself.
    waiting = reduced - reduced.min()
    rows = prepared[0].rows
    assert rows is not None, "a setup with shards"
    return {
        "shards": float(count),
        "rows": float(rows.total),
        "rows_per_step": float(reduce([_rows_per_step(one) for one in prepared])),
        "bytes_per_step": times.reduced_bytes / max(1, times.steps),
        "compute_us": float(compute.mean()),
        "compute_us_max": float(compute.max()),
        "reduce_us": float(reduced.min()),
        "waiting_us": float(waiting.mean()),
        "waiting_us_max": float(waiting.max()),
    }


def _rows_per_step(prepared: PreparedModel) -> Tensor:
    """Rows of which a step takes account on one shard, `(1,)`."""
    assert prepared.rows is not None, "a setup with shards"
    batches = prepared.batches
    count = prepared.rows.rows if batches is None else batches.size
    return torch.tensor([float(count)], dtype=torch.float64)
