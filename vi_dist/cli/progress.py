"""Progress on stderr: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from vi_dist.cluster.progress import Progress as Moment

LINE_SECONDS = 5.0


class ProgressLine:
    """A callback that shows where a sweep is; a context manager that tidies up."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._next = 0.0
        self._last = ""

    def __enter__(self) -> ProgressLine:
        if sys.stderr.isatty():
            columns = (BarColumn(bar_width=16), TextColumn("{task.fields[text]}"))
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("fitting", total=None, text="starting")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, moment: Moment) -> None:
        """Show a moment."""
        text = describe(moment)
        if self._bar is not None:
            self._bar.update(self._task, total=moment.steps_total, completed=moment.steps_done, text=text)
            return
        over = moment.done == moment.total
        if text != self._last and (over or time.monotonic() >= self._next):
            self._next, self._last = time.monotonic() + LINE_SECONDS, text
            print(text, file=sys.stderr, flush=True)


def describe(moment: Moment) -> str:
    """A moment in one line; what a narrow terminal cuts off comes last."""
    whole = moment.done - moment.cut_off
    parts = [f"{whole}/{moment.total} configurations", f"{moment.steps_per_second:,.0f} steps/s"]
    if moment.cut_off:
        parts = [parts[0], "interrupted, writing results"]
    elif moment.done == moment.total:
        parts = [parts[0], "writing results"]
    elif moment.seconds_left is not None:
        parts.append(f"{clock(moment.seconds_left)} left")
    if moment.note:
        # With the time, so that who waits sees that somebody is there.
        parts.append(f"waiting: {moment.note} ({clock(moment.seconds)})")
    if moment.best is not None:
        parts.append(f"best {moment.objective}={moment.best[1]:.3f} ({moment.best[0]})")
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """Seconds as people say them.

    >>> clock(7.2), clock(75), clock(7325)
    ('7 s', '1 min 15 s', '2 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
