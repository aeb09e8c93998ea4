"""Where a sweep's wall time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PARTS = ("start_up", "stepping", "evaluation", "tracking", "other")


@dataclass
class Timings:
    """Seconds by part, while a sweep runs.

    Workers work at the same time, so start-up, stepping and evaluation are means over them, and the parts add up to
    the wall time; `other` is the rest: workers without a pack, results on their way, files.

    Args:
        began: `time.perf_counter()` when the sweep, or the command, began.
    """

    began: float = field(default_factory=time.perf_counter)
    first_steps: dict[int, float] = field(default_factory=dict)
    preparing: float = 0.0
    stepping: float = 0.0
    evaluation: float = 0.0
    tracking: float = 0.0
    early_tracking: float = 0.0

    def stepped(self, worker: int, seconds: float, preparing: float) -> None:
        """A worker has just reported that it stepped for so long, after so long a preparation."""
        if not self.first_steps:
            self.early_tracking = self.tracking
        if worker not in self.first_steps:
            self.first_steps[worker] = time.perf_counter() - seconds
        else:
            self.preparing += preparing
        self.stepping += seconds

    @contextmanager
    def tracked(self) -> Iterator[None]:
        """What happens inside is tracking."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.tracking += time.perf_counter() - start

    def seconds(self) -> dict[str, float]:
        """Seconds by part, and `wall`, up to now; start-up holds building, tracing and compiling of later packs too."""
        wall, workers = time.perf_counter() - self.began, max(1, len(self.first_steps))
        until_first = sum(first - self.began for first in self.first_steps.values()) + self.preparing
        parts = {
            "start_up": max(0.0, until_first / workers - self.early_tracking) if self.first_steps else wall,
            "stepping": self.stepping / workers,
            "evaluation": self.evaluation / workers,
            "tracking": self.tracking,
        }
        return {"wall": wall, **parts, "other": max(0.0, wall - sum(parts.values()))}
