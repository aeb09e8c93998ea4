"""What the driver knows of a pack on its way: its last state, its curves, what it needs next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vi_dist.cluster.judgement import diverged_reason
from vi_dist.cluster.task import ADVANCED, CURVES, Array, Chunk, Evaluated, Outcome, PackTask, Place

FIRST_STEPS = 50
"""Steps of a pack's first chunk, while nobody knows how long they take."""


@dataclass
class PackRun:
    """One pack's progress.

    Args:
        task: what is to be done.
        members: places of its configurations in the sweep's list.
        last: where it stands: None before its first step; a pack that takes over columns of others starts with theirs.
        spent: seconds that its configurations took in earlier packs.
        ahead: steps of the next chunk.
    """

    task: PackTask
    members: tuple[int, ...]
    attempt: int = 1
    place: Place | None = None
    last: Chunk | None = None
    spent: tuple[float, ...] = ()
    ahead: int = FIRST_STEPS
    chunks: list[Chunk] = field(default_factory=list)
    outcomes: tuple[Outcome, ...] | None = None
    seconds: float = 0.0
    _closing: str = ""

    def __post_init__(self) -> None:
        rows = len(self.members)
        self.spent = self.spent or (0.0,) * rows
        self.first = np.zeros(rows, dtype=np.int64) if self.last is None else self.last.after
        """Steps that its configurations had taken before, `(n,)`."""

    def next_call(self) -> tuple[str, tuple[Any, ...]]:
        """The method of the worker to call next, and its arguments."""
        if self.last is None:
            return "advance", (self.task, None, min(self.ahead, self.task.steps))
        remaining = self.last.remaining(self.task)
        if remaining and not self._closing:
            return "advance", (self.task, self.last.state, min(self.ahead, remaining))
        return "evaluate", (self.task, self.last.state)

    def add(self, chunk: Chunk, chunk_seconds: float) -> None:
        """Take over a chunk; the next one is to last `chunk_seconds`."""
        self.last = chunk
        self.chunks.append(replace(chunk, state=b""))
        self.seconds += chunk.seconds
        steps = int((chunk.after - chunk.before).max())
        fitting = int(steps * chunk_seconds / max(chunk.seconds, 1e-9))
        # The first steps trace the program: grow by no more than a factor, until the time is what it is.
        self.ahead = max(1, min(fitting, 8 * max(steps, 1)))

    def close(self, reason: str) -> None:
        """Have the pack evaluated where it stands; one that has taken no step has nothing to evaluate and just ends.

        Args:
            reason: why, a sentence for those with steps left, which may name `{steps}` and `{of}`.
        """
        if self.last is None:
            self.give_up("stopped", reason)
        self._closing = reason

    def finish(self, evaluated: Evaluated) -> None:
        """Take over the outcomes; the pack's time is shared equally among its configurations."""
        self.seconds += evaluated.seconds
        found = zip(self.task.configurations, evaluated.outcomes, self.shares(), strict=True)
        self.outcomes = tuple(
            replace(self._told(outcome, configuration.steps), seconds=share)
            for configuration, outcome, share in found
        )

    def _told(self, outcome: Outcome, steps: int) -> Outcome:
        """The outcome of an evaluation; the worker does not know that there are steps to take."""
        if outcome.status != "finished" or outcome.steps >= steps:
            return outcome
        if self._closing:
            return replace(outcome, status="stopped", reason=_filled(self._closing, outcome.steps, steps))
        return replace(outcome, status=ADVANCED, reason=f"Took {outcome.steps} of {steps} steps so far.")

    def give_up(self, status: str, reason: str) -> None:
        """End the pack without evaluation; `reason` may name `{steps}` and `{of}`. What has diverged, has diverged."""
        outcomes = []
        for row, (configuration, share) in enumerate(
            zip(self.task.configurations, self.shares(), strict=True)
        ):
            steps, skipped, alive = 0, 0, True
            if self.last is not None:
                steps, skipped = int(self.last.after[row]), int(self.last.skipped[row])
                alive = bool(self.last.alive[row])
            text = _filled(reason, steps, configuration.steps)
            told = (
                (status, text)
                if alive
                else ("diverged", diverged_reason(steps, configuration.steps, skipped))
            )
            outcomes.append(Outcome(*told, steps=steps, skipped=skipped, seconds=share))
        self.outcomes = tuple(outcomes)

    def end(self, row: int, status: str, reason: str) -> None:
        """Put an end to a configuration that has paused; others stay as they are. `reason` as for `close`."""
        assert self.outcomes is not None
        found, steps = self.outcomes[row], self.task.configurations[row].steps
        if not found.over:
            ended = replace(found, status=status, reason=_filled(reason, found.steps, steps))
            self.outcomes = (*self.outcomes[:row], ended, *self.outcomes[row + 1 :])

    def forget_state(self) -> None:
        """Let the state go, which nobody needs after the end."""
        if self.last is not None:
            self.last = replace(self.last, state=b"")

    def release_results(self) -> None:
        """Let curves and guides go, which are on disk; the numbers of the outcomes stay."""
        self.chunks.clear()
        self.outcomes = tuple(replace(one, leaves={}, model_params={}) for one in self.outcomes or ())

    def score(self, score: Callable[[PackRun, int], float]) -> None:
        """Give every outcome that has a guide a score, a function of this pack and the outcome's row."""
        assert self.outcomes is not None
        self.outcomes = tuple(
            replace(outcome, score=score(self, row))
            if outcome.leaves and outcome.status != "diverged"
            else outcome
            for row, outcome in enumerate(self.outcomes)
        )

    def shares(self) -> list[float]:
        """Every configuration's share of the time so far, in earlier packs too."""
        return [spent + self.seconds / len(self.members) for spent in self.spent]

    def steps_taken(self) -> int:
        """Steps of this pack so far, summed over configurations."""
        return 0 if self.last is None else int((self.last.after - self.first).sum())

    def steps_wanted(self) -> int:
        """Steps of this pack if nothing diverges, summed over configurations."""
        return int((np.array(self.task.targets) - self.first).sum())

    def curves(self) -> list[dict[str, Array]]:
        """For every configuration its curves by name, one value per step taken in this pack."""
        return [
            {name: _joined([chunk_values(chunk, name, row) for chunk in self.chunks]) for name in CURVES}
            for row in range(len(self.members))
        ]


def chunk_values(chunk: Chunk, name: str, row: int) -> Array:
    """One configuration's values of one curve in a chunk."""
    return chunk.curves[name][: int(chunk.after[row] - chunk.before[row]), row]


def _filled(reason: str, steps: int, of: int) -> str:
    return reason.replace("{steps}", str(steps)).replace("{of}", str(of))


def _joined(parts: list[Array]) -> Array:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
