"""How far a sweep is: what callbacks get and the CLI shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """A moment of a sweep.

    Attributes:
        done, total: configurations that have ended, and all.
        steps_done, steps_total: optimizer steps, summed over configurations.
        steps_per_second: configuration-steps a second, recently.
        seconds: since the sweep began.
        seconds_left: a guess; None while there is nothing to guess from.
        best: name and objective of the best configuration so far.
        note: what the sweep is waiting for, if it is.
        objective: what the best is best by.
        cut_off: of those that have ended, how many Ctrl-C ended.
    """

    done: int
    total: int
    steps_done: int = 0
    steps_total: int = 0
    steps_per_second: float = 0.0
    seconds: float = 0.0
    seconds_left: float | None = None
    best: tuple[str, float] | None = None
    note: str = ""
    objective: str = "elbo"
    cut_off: int = 0


ProgressCallback = Callable[[Progress], None]
