"""A sweep's progress, counted as chunks and outcomes come in: a report costs the same however many packs there are."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence

from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.progress import Progress, ProgressCallback
from vi_dist.cluster.task import Chunk

_WINDOW_SECONDS = 10.0
_PATIENCE_SECONDS = 10.0
_TELL_SECONDS = 0.1
"""Least time between two reports, however quickly workers answer."""


class Meter:
    """Tells a callback how far the packs are.

    The rate is that of the last ten seconds, so that the time left follows what the workers do now.

    Args:
        runs: the packs to begin with.
        callback: told; None tells nobody.
        expected: configurations and steps in all; default: those of `runs` now.
        objective: what the best is best by, an attribute of `Outcome`.
    """

    def __init__(
        self,
        runs: Sequence[PackRun],
        callback: ProgressCallback | None,
        expected: tuple[int, int] | None = None,
        objective: str = "elbo",
    ) -> None:
        self._objective = objective
        self._callback = callback
        self._began = time.monotonic()
        self._told = -math.inf
        self._seen: deque[tuple[float, int]] = deque([(self._began, 0)])
        here = (sum(len(run.members) for run in runs), sum(run.steps_wanted() for run in runs))
        self._total, self._steps_total = expected or here
        self._steps = self._done = self._cut_off = self._given_up = 0
        self._over: dict[int, tuple[int, int]] = {}
        self._best: tuple[str, float] | None = None

    def stepped(self, chunk: Chunk) -> None:
        """Count a chunk's steps."""
        self._steps += int((chunk.after - chunk.before).sum())

    def pack_ended(self, run: PackRun) -> None:
        """Count a pack's outcomes; once more after a rung has decided on those that paused."""
        assert run.outcomes is not None
        index = run.task.index
        over = sum(outcome.over for outcome in run.outcomes)
        cut_off = sum(outcome.status == "interrupted" for outcome in run.outcomes)
        if index not in self._over:
            self._given_up += run.steps_wanted() - run.steps_taken()
            self._take_best(run)
        before = self._over.get(index, (0, 0))
        self._done += over - before[0]
        self._cut_off += cut_off - before[1]
        self._over[index] = (over, cut_off)

    def tell(self, waiting: str, *, at_once: bool = False) -> None:
        """Report the moment, unless the last report was just now; `at_once` reports in any case.

        `waiting` says what is missing while no worker is there; it is reported after a while.
        """
        now = time.monotonic()
        if self._callback is None or (now - self._told < _TELL_SECONDS and not at_once):
            return
        self._told = now
        rate = self._rate(now, self._steps)
        left = max(0, self._steps_total - self._steps - self._given_up)
        self._callback(
            Progress(
                done=self._done,
                total=self._total,
                steps_done=self._steps,
                steps_total=self._steps_total,
                steps_per_second=rate,
                seconds=now - self._began,
                seconds_left=left / rate if rate > 0 else None,
                best=self._best,
                objective=self._objective,
                note=waiting if now - self._began > _PATIENCE_SECONDS else "",
                cut_off=self._cut_off,
            )
        )

    def _rate(self, now: float, steps: int) -> float:
        self._seen.append((now, steps))
        while len(self._seen) > 2 and now - self._seen[0][0] > _WINDOW_SECONDS:
            self._seen.popleft()
        first = self._seen[0]
        return (steps - first[1]) / max(now - first[0], 1e-9)

    def _take_best(self, run: PackRun) -> None:
        """Keep the best of what has finished so far."""
        for configuration, outcome in zip(run.task.configurations, run.outcomes or (), strict=True):
            value = outcome.value(self._objective)
            better = self._best is None or value > self._best[1]
            if outcome.status == "finished" and math.isfinite(value) and better:
                self._best = (configuration.name, value)
