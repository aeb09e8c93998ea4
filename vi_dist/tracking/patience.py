"""Calling a store that may be away: wait, tell a bad request from a bad moment, give up only at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from mlflow.exceptions import MlflowException

Result = TypeVar("Result")

LONGEST_WAIT = 5.0
STRIKES = 5
LINGER = 60.0
"""Seconds that a writer without a driver goes on trying in front of a store that is away."""

_BAD_REQUEST = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "RESOURCE_ALREADY_EXISTS"}
_BUSY = "TEMPORARILY_UNAVAILABLE"
_log = logging.getLogger(__name__)


class Refused(Exception):
    """The store will never take this; asking again cannot help."""


class GaveUp(Exception):
    """The store stayed away and nobody is waiting any more; the spool keeps what is left."""


class Patience:
    """Repeats a call until the store takes it, refuses it, or nobody waits for it any more.

    A call counts as refused when the store says that the request is wrong, or when it fails again and again
    while the store answers ``probe``: one poisoned record must not stop those behind it.

    Args:
        probe: a cheap call that succeeds whenever the store works.
        alone: says whether the driver is gone, so that waiting must end some time.
        trouble: told the reason when the store goes away, and "" when it is back.
        beat: called after every call that the store took: a sign of life.
        longest_wait: seconds between two tries, once the first few have failed.
    """

    def __init__(
        self,
        probe: Callable[[], object],
        alone: Callable[[], bool] = lambda: True,
        trouble: Callable[[str], None] = lambda message: None,
        beat: Callable[[], None] = lambda: None,
        longest_wait: float = LONGEST_WAIT,
    ) -> None:
        self._probe = probe
        self._alone = alone
        self._trouble = trouble
        self._beat = beat
        self._longest_wait = longest_wait
        self._troubled = False
        self._last_success = time.monotonic()

    def call(self, function: Callable[..., Result], *arguments: object, **named: object) -> Result:
        """``function(*arguments, **named)``, again and again if need be.

        Raises:
            Refused: the store will not take it.
            GaveUp: the store is away and the driver is gone.
        """
        strikes, pause = 0, min(0.25, self._longest_wait)
        while True:
            try:
                result = function(*arguments, **named)
            except (MlflowException, OSError) as fault:
                strikes += self._judge(fault, strikes)
                self._report(fault)
            except Exception as fault:  # a bug of ours or MLflow's: it would be there again the next time
                raise Refused(_say(fault)) from fault
            else:
                self._succeed()
                return result
            self._wait(pause)
            pause = min(2 * pause, self._longest_wait)

    def _judge(self, fault: MlflowException | OSError, strikes: int) -> int:
        """One more strike if the fault is the request's; raises Refused when that is certain."""
        if isinstance(fault, FileNotFoundError | IsADirectoryError | NotADirectoryError):
            raise Refused(_say(fault)) from fault
        code = getattr(fault, "error_code", "")
        if code in _BAD_REQUEST:
            raise Refused(_say(fault)) from fault
        if code == _BUSY or not self._answers():
            return 0
        if strikes + 1 >= STRIKES:
            raise Refused(_say(fault)) from fault
        return 1

    def _answers(self) -> bool:
        """Whether the store works apart from this call."""
        try:
            self._probe()
        except (MlflowException, OSError):
            return False
        return True

    def _report(self, fault: Exception) -> None:
        """Tell why we wait."""
        _log.warning("the store is away: %s", _say(fault))
        self._troubled = True
        self._trouble(_say(fault))

    def _succeed(self) -> None:
        """Note that the store is there."""
        self._last_success = time.monotonic()
        self._beat()
        if self._troubled:
            self._troubled = False
            self._trouble("")

    def _wait(self, seconds: float) -> None:
        """Sleep, unless nobody waits for us and the store has been away too long."""
        if self._alone() and time.monotonic() - self._last_success > LINGER:
            raise GaveUp
        time.sleep(seconds)


def _say(fault: Exception) -> str:
    """A fault in one line."""
    return f"{type(fault).__name__}: {' '.join(str(fault).split())[:500]}"
