"""Timing several sides against each other by short slices, taken in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.sides.side import Side


@dataclass
class Slices:
    """Seconds per step of one side, a number for each slice: wall time, and CPU time of the process."""

    side: Side
    steps: int
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def take(self) -> None:
        """Time one slice."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.side.advance(self.steps)
        self.cpu.append((time.process_time() - cpu) / self.steps)
        self.wall.append((time.perf_counter() - wall) / self.steps)


def steps_of_a_slice(side: Side, seconds: float) -> int:
    """Steps that take about so many seconds: a multiple of 64, which compiled programs take in one call."""
    side.advance(64)
    began = time.perf_counter()
    side.advance(64)
    return 64 * max(1, round(seconds / (time.perf_counter() - began)))


def interleave(sides: Sequence[Slices], repeats: int, seconds: float) -> None:
    """Take one slice of each side in turns, `repeats` times, or at least five times within so many seconds.

    What else the machine does then falls on all sides alike, and ratios are taken slice by slice.
    """
    began = time.perf_counter()
    for repeat in range(repeats):
        if repeat >= 5 and time.perf_counter() - began > seconds:
            return
        for one in sides if repeat % 2 else reversed(sides):
            one.take()


def median_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """The median over repeats of one side's time over another's."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))
