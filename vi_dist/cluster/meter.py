"""Reckoning a sweep's progress from its packs."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence

from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.progress import Progress, ProgressCallback

_WINDOW_SECONDS = 10.0
_PATIENCE_SECONDS = 10.0


class Meter:
    """Tells a callback how far the packs are.

    The rate is that of the last ten seconds, so that the time left follows what the workers do now.
    """

    def __init__(self, runs: Sequence[PackRun], callback: ProgressCallback | None) -> None:
        self._runs, self._callback = runs, callback
        self._began = time.monotonic()
        self._seen: deque[tuple[float, int]] = deque([(self._began, 0)])
        configurations = [configuration for run in runs for configuration in run.task.configurations]
        self._total, self._steps_total = len(configurations), sum(c.steps for c in configurations)

    def tell(self, waiting: str) -> None:
        """Report the moment; `waiting` says what is missing while no worker is there, told after a while."""
        if self._callback is None:
            return
        now = time.monotonic()
        steps = sum(run.steps_taken() for run in self._runs)
        rate = self._rate(now, steps)
        ended = [run for run in self._runs if run.outcomes is not None]
        given_up = sum(c.steps for run in ended for c in run.task.configurations) - sum(
            r.steps_taken() for r in ended
        )
        left = self._steps_total - steps - given_up
        self._callback(
            Progress(
                done=sum(len(run.members) for run in ended),
                total=self._total,
                steps_done=steps,
                steps_total=self._steps_total,
                steps_per_second=rate,
                seconds=now - self._began,
                seconds_left=left / rate if rate > 0 else None,
                best=self._best(ended),
                note=waiting if now - self._began > _PATIENCE_SECONDS else "",
            )
        )

    def _rate(self, now: float, steps: int) -> float:
        self._seen.append((now, steps))
        while len(self._seen) > 2 and now - self._seen[0][0] > _WINDOW_SECONDS:
            self._seen.popleft()
        first = self._seen[0]
        return (steps - first[1]) / max(now - first[0], 1e-9)

    def _best(self, ended: Sequence[PackRun]) -> tuple[str, float] | None:
        found = [
            (configuration.name, outcome.elbo)
            for run in ended
            for configuration, outcome in zip(run.task.configurations, run.outcomes or (), strict=True)
            if outcome.status == "finished" and math.isfinite(outcome.elbo)
        ]
        return max(found, key=lambda pair: pair[1], default=None)
