"""What a driver holds: records in, never an exception out, never a wait for MLflow."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from vi_dist.checked_files import sealed_json
from vi_dist.redaction import redacted
from vi_dist.tracking.environment import (
    absolute_uri,
    child_environment,
    open_private,
    python_module,
    without_credentials,
)
from vi_dist.tracking.lock import FileLock
from vi_dist.tracking.records import Record, SweepEnded, SweepStarted, encode
from vi_dist.tracking.spool import RECORDS, Spool, pending
from vi_dist.tracking.state import STATE, State
from vi_dist.tracking.writer import DRIVER_LOCK, TRACKER, WRITER_LOCK

LOG = "writer.log"
RESTARTS = 5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackingSummary:
    """What has reached MLflow.

    Args:
        tracking_uri: where it went, without passwords.
        experiment_id: the sweep's experiment; None when nothing reached MLflow.
        parent_run_id: the sweep's run.
        run_ids: configuration key to child run.
        pending: records still in the spool; ``vi-dist sync`` sends them later.
        dropped: values left out because they were not finite.
        champion: which version the winner was registered as, and whether it is the champion; empty if not registered.
        error: what went wrong, in a sentence or two; None when nothing did.
    """

    tracking_uri: str
    experiment_id: str | None = None
    parent_run_id: str | None = None
    run_ids: dict[str, str] = field(default_factory=dict)
    pending: int = 0
    dropped: int = 0
    champion: str = ""
    error: str | None = None


class Tracker:
    """Spools records and keeps a writer process alive that carries them to MLflow.

    No method raises or waits for MLflow, ``close`` aside, which waits a while; faults are in the summary.

    Args:
        directory: the sweep's spool; a spool that is there already is gone on with.
        tracking_uri: MLflow's; relative paths are resolved now.
    """

    def __init__(self, directory: Path | str, tracking_uri: str) -> None:
        self.directory = Path(directory).absolute()
        self.tracking_uri = absolute_uri(tracking_uri)
        self._mutex = threading.Lock()
        self._lock = FileLock(self.directory / DRIVER_LOCK)
        self._spool: Spool | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._next_start = 0.0
        self._acked = (-1, 0)
        self._unsaved: list[bytes] = []
        self._open = False
        self._fault: str | None = None

    def start(self) -> Tracker:
        """Open the spool and start the writer, which gets MLflow ready meanwhile."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._take_spool()
            description = os.open(self.directory / TRACKER, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(description, "wb") as file:
                file.write(sealed_json({"tracking_uri": self.tracking_uri}))
            self._spool = Spool(self.directory)
            self._start_writer()
        except OSError as fault:
            self._note(f"tracking could not start: {fault}")
        return self

    def write(self, *records: Record) -> None:
        """Put records into the spool, at once; they are safe from a crash of this process when this returns."""
        with self._mutex:
            for record in records:
                try:
                    self._unsaved.append(encode(record))
                except Exception as fault:  # the sweep goes on whatever happens here
                    self._note(f"{type(record).__name__}: {type(fault).__name__}: {fault}")
                if isinstance(record, SweepStarted | SweepEnded):
                    self._open = isinstance(record, SweepStarted)
            try:
                self._save()
                self._tend_writer()
            except Exception as fault:  # as above
                self._note(f"{type(fault).__name__}: {fault}")

    def close(self, timeout: float = 60.0) -> TrackingSummary:
        """End the sweep if its driver did not, and wait until everything is in MLflow.

        Args:
            timeout: seconds without any progress after which waiting ends; the writer goes on by itself, and
                what it cannot send stays in the spool.
        """
        if self._open:
            self.write(SweepEnded("interrupted", "its driver stopped without saying how it ended"))
        try:
            self._await_writer(timeout)
        except OSError as fault:
            self._note(f"tracking could not be waited for: {fault}")
        summary = self.summary()
        if self._spool is not None:
            self._spool.close()
        self._spool = None
        self._lock.release()
        return summary

    def summary(self) -> TrackingSummary:
        """What has reached MLflow so far."""
        state = State.load(self.directory)
        left = pending(self.directory / RECORDS, state.offset) + len(self._unsaved)
        return TrackingSummary(
            tracking_uri=redacted(self.tracking_uri),
            experiment_id=state.experiment_id or None,
            parent_run_id=state.parent_run_id or None,
            run_ids=state.run_ids,
            pending=left,
            dropped=state.dropped,
            champion=state.champion,
            error=self._describe(state, left),
        )

    def _take_spool(self) -> None:
        """Become the spool's only driver; the writer of a dead one may hold it for a moment."""
        deadline = time.monotonic() + 2
        while not self._lock.acquire():
            if time.monotonic() > deadline:
                raise OSError(f"another process is tracking this sweep ({self.directory})")
            time.sleep(0.05)

    def _save(self) -> None:
        """Append what is not in the spool yet; after a fault of the disk that is more than one record."""
        if self._spool is None:
            raise OSError("tracking is not running")
        self._spool.append(b"".join(self._unsaved))
        self._unsaved.clear()

    def _start_writer(self) -> None:
        command = python_module("vi_dist.tracking.writer", str(self.directory), str(os.getpid()))
        with open_private(self.directory / LOG) as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=child_environment(self.tracking_uri),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._next_start = time.monotonic() + 2.0**self._starts
        self._starts += 1

    def _tend_writer(self) -> None:
        """Start the writer anew if it is gone, a few times, ever less eagerly."""
        if self._process is None or self._process.poll() is None or self._is_lost():
            return
        if time.monotonic() >= self._next_start:
            _log.info("the tracking writer ended with status %s: starting it anew", self._process.returncode)
            self._start_writer()

    def _is_lost(self) -> bool:
        """Whether the writer is gone for good."""
        return self._process is None or (self._starts > RESTARTS and self._process.poll() is not None)

    def _await_writer(self, timeout: float) -> None:
        """Wait for the acknowledgement of the whole spool, as long as there is progress."""
        sign_of_life = self.directory / WRITER_LOCK
        seen, deadline = 0, time.monotonic() + timeout
        while not self._is_done():
            beat = sign_of_life.stat().st_mtime_ns if sign_of_life.exists() else 0
            if beat > seen:
                seen, deadline = beat, time.monotonic() + timeout
            if self._is_lost() or time.monotonic() > deadline:
                return
            self._tend_writer()
            time.sleep(0.05)
        self._release_writer()

    def _is_done(self) -> bool:
        """Whether everything in the spool is stored; the state is read only when it is another than the last time."""
        path, file = self.directory / RECORDS, self.directory / STATE
        if not path.exists():
            return True
        stamp = file.stat().st_mtime_ns if file.exists() else 0
        if stamp != self._acked[0]:
            self._acked = (stamp, State.load(self.directory).offset)
        return self._acked[1] >= path.stat().st_size

    def _release_writer(self) -> None:
        """A writer ends by itself after a sweep's end; one that never had a sweep waits for nothing."""
        if self._process is None:
            return
        if not State.load(self.directory).ended:
            self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()

    def _describe(self, state: State, left: int) -> str | None:
        """Everything that went wrong, in a few sentences."""
        faults = [self._fault] if self._fault else []
        if left and state.trouble:
            faults.append(f"{without_credentials(self.tracking_uri)} is away: {state.trouble}")
        if left and self._process is not None and self._is_lost():
            faults.append(f"the tracking writer keeps ending: see {self.directory / LOG}")
        if state.refused:
            faults.append(f"MLflow refused {state.refused}: {state.faults[0]}")
        return "; ".join(faults) or None

    def _note(self, fault: str) -> None:
        """Keep the first fault for the summary, and log every one."""
        self._fault = self._fault or fault
        _log.warning("tracking: %s", fault)
