"""The process that carries a spool into MLflow: ``python -m vi_dist.tracking.writer SPOOL_DIRECTORY``.

It owns every import of MLflow, outlives a driver that dies, and closes what the driver left open.
"""

from __future__ import annotations

import atexit
import gc
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vi_dist.redaction import RedactingFormatter, redacted
from vi_dist.tracking.environment import child_environment, credentials_to_environment
from vi_dist.tracking.lock import FileLock
from vi_dist.tracking.records import Record, SweepEnded, decode, encode
from vi_dist.tracking.spool import RECORDS, Spool, SpoolReader
from vi_dist.tracking.state import State
from vi_dist.uncollected import uncollected

if TYPE_CHECKING:
    from vi_dist.tracking.store import Store

TRACKER = "tracker.json"
DRIVER_LOCK = "driver.lock"
WRITER_LOCK = "writer.lock"
REST = (0.5, 15.0)
"""Least and most seconds between two flushes: points of one run that come meanwhile share a request."""
EASE = 3.0
"""Rest per work. A flush costs 8 ms a run even for one point, and the cores belong to the sweep."""
# Beginnings of lines after which somebody waits.
_AWAITED = (b'{"kind": "PacksEnded"', b'{"kind": "SweepEnded"')
_log = logging.getLogger(__name__)


class Writer:
    """Follows a spool until its sweep has ended and everything is stored.

    Args:
        directory: the spool's.
        driver: the process that fills it; once that is not our parent any more, it is gone.
    """

    def __init__(self, directory: Path, driver: int) -> None:
        self.directory = directory
        self.driver = driver
        self.acked = State.load(directory)

    def alone(self) -> bool:
        """Whether the driver is gone."""
        return os.getppid() != self.driver

    def run(self) -> None:
        """Carry records until there are no more to come.

        Raises:
            GaveUp: the store is away and the driver is gone; the spool keeps what is left.
        """
        with uncollected():
            from vi_dist.tracking.opening import open_store
            from vi_dist.tracking.quick_commits import quick_commits

        uri = json.loads((self.directory / TRACKER).read_text())["tracking_uri"]
        uri = credentials_to_environment(uri)
        store = open_store(uri, self.alone, self._trouble, self._beat)
        with quick_commits(uri) as durable:
            self._carry(store, durable)

    def _carry(self, store: Store, durable: Callable[[], None]) -> None:
        """Carry records to the store; `durable` returns once all that it took is on the disk."""
        from vi_dist.tracking.mirror import Mirror, holds

        state = State.load(self.directory)
        if state.offset and not holds(store, state):
            _log.warning("the store does not hold what was sent before: everything is sent again")
            state = State()
        mirror = Mirror(store, state)
        reader = SpoolReader(self.directory / RECORDS, state.offset)
        seen_the_end = False
        while True:
            began = time.monotonic()
            if lines := reader.read():
                mirror.apply(_decoded(lines, state))
                mirror.note_offset(reader.offset)
                durable()
                state.offset = reader.offset
                self._acknowledge(state)
                seen_the_end = state.ended
            elif seen_the_end or (self.alone() and not self._end_for_driver(state)):
                return
            if not seen_the_end:
                self._rest(reader, 0.0 if mirror.awaited else max(REST[0], EASE * (time.monotonic() - began)))

    def _rest(self, reader: SpoolReader, seconds: float) -> None:
        """Let records gather, but not while somebody waits for the sweep's end."""
        deadline = time.monotonic() + min(seconds, REST[1])
        time.sleep(0.05)
        while time.monotonic() < deadline and not self.alone() and not any(map(reader.foresees, _AWAITED)):
            time.sleep(0.05)

    def _beat(self) -> None:
        """Let the driver see that something moves: a thousand records may stand between two offsets."""
        os.utime(self.directory / WRITER_LOCK)

    def _acknowledge(self, state: State) -> None:
        """Say that everything up to the offset is stored."""
        state.save(self.directory)
        self.acked = State.load(self.directory)

    def _trouble(self, message: str) -> None:
        """Let the driver see why nothing moves, without acknowledging what is only half done."""
        self.acked = replace(self.acked, trouble=redacted(message))
        self.acked.save(self.directory)

    def _end_for_driver(self, state: State) -> bool:
        """Write the end that a dead driver owes; false when nothing is open or another driver came."""
        lock = FileLock(self.directory / DRIVER_LOCK)
        if state.ended or not state.sweep or not lock.acquire():
            return False
        try:
            spool = Spool(self.directory)
            spool.append(encode(SweepEnded("interrupted", "its driver died")))
            spool.close()
        finally:
            lock.release()
        return True


def _decoded(lines: list[bytes], state: State) -> Iterator[Record]:
    """The records in the lines; a line that is none is counted and left out."""
    for line in lines:
        try:
            yield decode(line)
        except ValueError as fault:
            state.refuse(str(fault))


def main() -> int:
    """Run the writer of the directory named on the command line; returns the exit status."""
    directory, driver = Path(sys.argv[1]).absolute(), int(sys.argv[2])
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(asctime)s %(process)d %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # A Ctrl-C is the driver's to answer. Science goes first where cores are few.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)
    os.environ.update(child_environment())
    lock = FileLock(directory / WRITER_LOCK)
    while not lock.acquire():
        if os.getppid() != driver:
            return 0
        time.sleep(0.1)
    from vi_dist.tracking.patience import GaveUp, Refused

    try:
        Writer(directory, driver).run()
    except GaveUp:
        _log.warning("the store stayed away: the spool keeps the rest")
        return 3
    except Refused as fault:
        _log.warning("the store cannot be opened: %s", fault)
        return 4
    return 0


if __name__ == "__main__":
    atexit.register(gc.freeze)  # the end frees everything: what of it is garbage need not be looked for
    sys.exit(main())
