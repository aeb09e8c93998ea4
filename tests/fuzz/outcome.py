"""What became of one odd input, and the table of all."""

from __future__ import annotations

import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from vi_dist.errors import SpecError

HANG_SECONDS = 20.0
"""Processor time after which an input counts as a hang."""
GOOD = ("refused", "accepted")
BAD = ("traceback", "exit 1", "hang", "nonsense")


@dataclass(frozen=True)
class Outcome:
    """What became of an input.

    Attributes:
        kind: refused or accepted, or what is wrong: traceback, exit 1, hang, nonsense.
        detail: the message, or the end of the traceback.
        seconds: of processor time.
    """

    kind: str
    detail: str
    seconds: float


class Hang(BaseException):
    """The input took too much of the processor."""


class Nonsense(Exception):
    """An input was accepted whose values are not legal, or whose result is none."""


def judged(attempt: Callable[[], object], says_why: Callable[[BaseException], bool]) -> Outcome:
    """Run an attempt with one odd input; `says_why` tells a refusal in words from a traceback."""
    began = time.process_time()

    def outcome(kind: str, detail: str = "") -> Outcome:
        seconds = time.process_time() - began
        return Outcome("hang" if seconds > HANG_SECONDS else kind, detail, seconds)

    try:
        with _limited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attempt()
    except Hang:
        return outcome("hang", f"stopped after {HANG_SECONDS:g} s of processor time")
    except Nonsense as error:
        return outcome("nonsense", str(error))
    except (Exception, SystemExit) as error:
        if says_why(error):
            return outcome("refused", f"{type(error).__name__}: {error}")
        return outcome("traceback", traceback.format_exc()[-3000:])
    return outcome("accepted")


def in_words(error: BaseException) -> bool:
    """Whether an exception is a sentence to its reader: a `SpecError`, a file's own error, or one of our own."""
    if isinstance(error, SpecError) or (isinstance(error, OSError) and error.filename is not None):
        return len(str(error)) < 4000
    if not isinstance(error, TypeError | ValueError | LookupError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return "/vi_dist/" in frames[-1].filename and len(frames) > 1 and " " in str(error)


@contextmanager
def _limited() -> Iterator[None]:
    """Raise `Hang` in whatever takes more than the limit of processor time."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS + 5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def table(outcomes: dict[str, Sequence[Outcome]]) -> str:
    """A line for each kind of input: how many there were, and what became of them."""
    heads = ["inputs", "number", *GOOD, *BAD, "longest (s)"]
    rows = [heads]
    for name, found in outcomes.items():
        counts = Counter(outcome.kind for outcome in found)
        longest = max((outcome.seconds for outcome in found), default=0.0)
        rows.append([name, str(len(found)), *(str(counts[kind]) for kind in (*GOOD, *BAD)), f"{longest:.1f}"])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(heads), *lines[1:]])
