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

    Args:
        runs: the packs, to which more may be added.
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
        self._runs, self._callback = runs, callback
        self._began = time.monotonic()
        self._seen: deque[tuple[float, int]] = deque([(self._began, 0)])
        here = (sum(len(run.members) for run in runs), sum(run.steps_wanted() for run in runs))
        self._total, self._steps_total = expected or here

    def tell(self, waiting: str, interrupted: bool = False) -> None:
        """Report the moment; `waiting` says what is missing while no worker is there, told after a while."""
        if self._callback is None:
            return
        now = time.monotonic()
        steps = sum(run.steps_taken() for run in self._runs)
        rate = self._rate(now, steps)
        ended = [run for run in self._runs if run.outcomes is not None]
        given_up = sum(run.steps_wanted() - run.steps_taken() for run in ended)
        left = max(0, self._steps_total - steps - given_up)
        self._callback(
            Progress(
                done=sum(
                    outcome.over and outcome.status != "interrupted"
                    for run in ended
                    for outcome in run.outcomes or ()
                ),
                total=self._total,
                steps_done=steps,
                steps_total=self._steps_total,
                steps_per_second=rate,
                seconds=now - self._began,
                seconds_left=left / rate if rate > 0 else None,
                best=self._best(ended),
                objective=self._objective,
                note=waiting if now - self._began > _PATIENCE_SECONDS else "",
                interrupted=interrupted,
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
            (configuration.name, outcome.value(self._objective))
            for run in ended
            for configuration, outcome in zip(run.task.configurations, run.outcomes or (), strict=True)
            if outcome.status == "finished" and math.isfinite(outcome.value(self._objective))
        ]
        return max(found, key=lambda pair: pair[1], default=None)
