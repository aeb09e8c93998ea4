"""What the driver knows of a pack on its way: its last state, its curves, what it needs next."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vi_dist.cluster.judgement import diverged_reason
from vi_dist.cluster.task import CURVES, Array, Chunk, Evaluated, Outcome, PackTask, Place

FIRST_STEPS = 50
"""Steps of a pack's first chunk, while nobody knows how long they take."""


@dataclass
class PackRun:
    """One pack's progress.

    Args:
        task: what is to be done.
        members: places of its configurations in the sweep's list.
    """

    task: PackTask
    members: tuple[int, ...]
    attempt: int = 1
    place: Place | None = None
    last: Chunk | None = None
    chunks: list[Chunk] = field(default_factory=list)
    outcomes: tuple[Outcome, ...] | None = None
    seconds: float = 0.0
    _ahead: int = FIRST_STEPS

    def next_call(self) -> tuple[str, tuple[Any, ...]]:
        """The method of the worker to call next, and its arguments."""
        if self.last is None:
            return "advance", (self.task, None, min(self._ahead, self.task.steps))
        remaining = self.last.remaining(self.task)
        if remaining:
            return "advance", (self.task, self.last.state, min(self._ahead, remaining))
        return "evaluate", (self.task, self.last.state)

    def add(self, chunk: Chunk, chunk_seconds: float) -> None:
        """Take over a chunk; the next one is to last `chunk_seconds`."""
        self.last = chunk
        self.chunks.append(replace(chunk, state=b""))
        self.seconds += chunk.seconds
        steps = int((chunk.after - chunk.before).max())
        fitting = int(steps * chunk_seconds / max(chunk.seconds, 1e-9))
        # The first steps trace the program: grow by no more than a factor, until the time is what it is.
        self._ahead = max(1, min(fitting, 8 * max(steps, 1)))

    def finish(self, evaluated: Evaluated) -> None:
        """Take over the outcomes; the pack's time is shared equally among its configurations."""
        self.seconds += evaluated.seconds
        share = self.seconds / len(self.members)
        self.outcomes = tuple(replace(outcome, seconds=share) for outcome in evaluated.outcomes)

    def give_up(self, status: str, reason: str) -> None:
        """End the pack without evaluation; `reason` may name `{steps}` and `{of}`. What has diverged, has diverged."""
        share = self.seconds / len(self.members)
        outcomes = []
        for row, configuration in enumerate(self.task.configurations):
            steps, skipped, alive = 0, 0, True
            if self.last is not None:
                steps, skipped = int(self.last.after[row]), int(self.last.skipped[row])
                alive = bool(self.last.alive[row])
            text = reason.replace("{steps}", str(steps)).replace("{of}", str(configuration.steps))
            told = (status, text) if alive else ("diverged", diverged_reason(steps, configuration.steps))
            outcomes.append(Outcome(*told, steps=steps, skipped=skipped, seconds=share))
        self.outcomes = tuple(outcomes)

    def steps_taken(self) -> int:
        """Steps so far, summed over configurations."""
        return 0 if self.last is None else int(self.last.after.sum())

    def curves(self) -> list[dict[str, Array]]:
        """For every configuration its curves by name, one value per step taken."""
        return [
            {name: _joined([chunk_values(chunk, name, row) for chunk in self.chunks]) for name in CURVES}
            for row in range(len(self.members))
        ]


def chunk_values(chunk: Chunk, name: str, row: int) -> Array:
    """One configuration's values of one curve in a chunk."""
    return chunk.curves[name][: int(chunk.after[row] - chunk.before[row]), row]


def _joined(parts: list[Array]) -> Array:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
