"""A pack that does not fit into memory, as two packs of half the width and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vi_dist.cluster.task import CURVES, Chunk, PackTask
from vi_dist.vi.state import PackState, gather


def halved(task: PackTask, state: bytes | None) -> list[tuple[PackTask, bytes | None]]:
    """The pack as one or two of half its width, each with its columns of the state."""
    half = task.width // 2
    kinds = (*task.kinds, *task.configurations)
    parts = []
    for first in range(0, len(task.configurations), half):
        members = task.configurations[first : first + half]
        own = None
        if state is not None:
            whole = PackState.from_bytes(state)
            own = gather([(whole, first + row) for row in range(len(members))], half).to_bytes()
        parts.append((replace(task, width=half, configurations=members, kinds=kinds), own))
    return parts


def joined(task: PackTask, chunks: Sequence[Chunk]) -> Chunk:
    """The chunk of the whole pack from those of its halves."""
    states = [(PackState.from_bytes(chunk.state), len(chunk.after)) for chunk in chunks]
    rows = [(state, row) for state, count in states for row in range(count)]
    first, last = chunks[0], chunks[-1]
    return replace(
        first,
        state=gather(rows, task.width).to_bytes(),
        before=np.concatenate([chunk.before for chunk in chunks]),
        after=np.concatenate([chunk.after for chunk in chunks]),
        skipped=np.concatenate([chunk.skipped for chunk in chunks]),
        alive=np.concatenate([chunk.alive for chunk in chunks]),
        curves={name: np.concatenate([chunk.curves[name] for chunk in chunks], 1) for name in CURVES},
        ended_ms=last.ended_ms,
        seconds=sum(chunk.seconds for chunk in chunks),
        preparing=sum(chunk.preparing for chunk in chunks),
    )
