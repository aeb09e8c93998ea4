"""The driver: packs from a queue to workers, chunk by chunk, whatever dies on the way."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from vi_dist.cluster.executor import Executor, Handle, WorkerError, WorkerLost
from vi_dist.cluster.fault import one_line
from vi_dist.cluster.interrupts import Interrupts
from vi_dist.cluster.meter import Meter
from vi_dist.cluster.observer import Observer
from vi_dist.cluster.pack_queue import PackQueue
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.progress import ProgressCallback
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import Chunk, Evaluated, Place, StepKind
from vi_dist.cluster.time_limits import TimeLimits
from vi_dist.cluster.timings import Timings

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a pack is started before its configurations count as failed."""
CHUNK_SECONDS = 1.0
"""How long a chunk of steps is to last: what a dead worker costs, and how fresh progress is."""
POLL_SECONDS = 0.25
GRACE_SECONDS = 5.0
"""How long calls on their way are waited for after Ctrl-C, so that their steps are not lost."""

Follow = Callable[[Sequence[PackRun]], Sequence[PackRun]]
"""What comes after some packs: decides, once all of them have ended, who of those that paused is over (`PackRun.end`),
and returns the packs to run next; none if the sweep is over."""


class Driver:
    """Runs packs on an executor's workers.

    Args:
        runs: the packs; their outcomes are found there afterwards.
        setup: what every worker needs.
        executor: where the workers are; opened and closed by `run`.
        observers: told what happens.
        timings: where seconds are counted.
        interrupts: how Ctrl-C is heard; entered already if more than this is to hear it.
        callback: told of progress.
        chunk_seconds: how long a chunk of steps is to last; changes no result.
        follow: what comes after these packs, and after those that it returned.
        limits: when packs end before their last step.
        expected: configurations and their steps in all, where more follows than `runs`.
        objective: what is told as the best so far, an attribute of `Outcome`.
        score: of an outcome by its pack and row, taken after every evaluation (`PackRun.score`).
        aside: taken a turn further whenever workers leave nothing to do; never waited for.
    """

    def __init__(
        self,
        runs: Sequence[PackRun],
        setup: Setup,
        executor: Executor,
        observers: Sequence[Observer] = (),
        *,
        timings: Timings | None = None,
        interrupts: Interrupts | None = None,
        callback: ProgressCallback | None = None,
        chunk_seconds: float = CHUNK_SECONDS,
        follow: Follow | None = None,
        limits: TimeLimits | None = None,
        expected: tuple[int, int] | None = None,
        objective: str = "elbo",
        score: Callable[[PackRun, int], float] | None = None,
        aside: Iterable[object] = (),
    ) -> None:
        self.runs, self.setup, self.executor, self.observers = list(runs), setup, executor, list(observers)
        self.timings = timings or Timings()
        self.interrupts = interrupts or Interrupts()
        self.chunk_seconds = chunk_seconds
        self.follow, self.limits = follow, limits or TimeLimits()
        self.interrupted = False
        self._score, self._aside = score, iter(aside)
        self._meter = Meter(self.runs, callback, expected, objective)
        self._phase: list[PackRun] = list(self.runs)
        self._paused: list[PackRun] = []
        self._queue = PackQueue(self.runs)
        self._unfinished = len(self.runs)
        self._idle: list[int] = []
        self._calls: dict[Handle, tuple[int, PackRun | None]] = {}
        self._places: dict[int, Place] = {}
        self._losses = self._workers = 0
        self._kinds: set[StepKind] = set()

    def run(self) -> None:
        """Run every pack to its end, or to Ctrl-C: then `interrupted` is set and what is open has that status.

        Raises `SpecError` where no worker can start, `RuntimeError` if workers keep dying before their first pack, and
        `KeyboardInterrupt` on a second Ctrl-C.
        """
        with self.interrupts as interrupts:
            try:
                while not interrupts.requested and not self.executor.ready(POLL_SECONDS):
                    self._meter.tell("Ray is starting")
                if not interrupts.requested:
                    self._workers = self.executor.open(self.setup, len(self.runs))
                for worker in range(self._workers):
                    self._greet(worker)
                while not interrupts.requested and (self._open() or self._go_on()):
                    self._step()
                if interrupts.requested:
                    self._interrupt()
                self._meter.tell("", at_once=True)
            finally:
                self.executor.close()

    def _go_on(self) -> bool:
        """All packs have ended: settle what those are that paused, and begin what follows; False if nothing does."""
        more: Sequence[PackRun] = ()
        if self.limits.over:
            self._end_paused("stopped", self.limits.sweep_reason)
        elif self.follow is not None:
            more = self.follow(self._phase)
        self._tell_paused()
        self._phase = list(more)
        self.runs += more
        self._queue.add(more)
        self._unfinished += len(more)
        idle, self._idle = self._idle, []
        for worker in idle:
            self._feed(worker, None)
        return bool(more)

    def _end_paused(self, status: str, reason: str) -> None:
        """End the configurations that have paused at a rung; `reason` as for `PackRun.close`."""
        for run in self._paused:
            for row in range(len(run.members)):
                run.end(row, status, reason)

    def _open(self) -> bool:
        return self._unfinished > 0

    def _step(self) -> None:
        """Wait a moment for results and hand out what comes next."""
        done = self.executor.wait(list(self._calls), POLL_SECONDS)
        for handle in done:
            self._receive(handle)
        if not done:
            next(self._aside, None)
        if self.limits.over:
            self._drop_queue()
        traced = (
            ""
            if self._kinds
            else "the step is being traced, and compiled if that pays; for whitened guides the mode is sought"
        )
        self._meter.tell(traced if self._places else self.executor.missing())

    def _drop_queue(self) -> None:
        """The sweep's time is over: what has not begun never will, even if no worker is there to be told."""
        for run in self._queue.take_unbegun():
            run.close(self.limits.sweep_reason)
            self._ended(run)

    def _greet(self, worker: int) -> None:
        """Ask a new worker where it is; it gets packs when it has answered."""
        self._calls[self.executor.submit(worker, "place")] = (worker, None)

    def _receive(self, handle: Handle, more: bool = True) -> None:
        """Take a result and, if there is `more` to come, give its worker the next call."""
        worker, run = self._calls.pop(handle)
        try:
            result = self.executor.result(handle)
        except WorkerLost as fault:
            self._lose(worker, run, str(fault), more)
            return
        except WorkerError as fault:
            self._fail(run, fault)
        else:
            self._take(worker, run, result, fresh=not self.executor.recalled(handle))
        if more:
            self._feed(worker, run)

    def _take(
        self, worker: int, run: PackRun | None, result: Place | Chunk | Evaluated, *, fresh: bool
    ) -> None:
        if isinstance(result, Place):
            self._places[worker] = result
            return
        assert run is not None
        if isinstance(result, Chunk):
            self._tell_kind(result.kind)
            if fresh:
                self.timings.stepped(worker, result.seconds, result.preparing)
            run.add(result, self.chunk_seconds)
            self._meter.stepped(result)
            for observer in self.observers:
                observer.chunk_done(run, result)
        else:
            self.timings.evaluation += result.seconds if fresh else 0.0
            run.finish(result)
            if self._score is not None:
                run.score(self._score)
            self._ended(run)

    def _feed(self, worker: int, run: PackRun | None) -> None:
        """The worker goes on with its pack, or takes one from the queue."""
        if run is None or run.outcomes is not None:
            run = self._next(worker)
        elif reason := self.limits.reason(run):
            run.close(reason)
        if run is None:
            self._idle.append(worker)
            return
        method, arguments = run.next_call()
        self._calls[self.executor.submit(worker, method, *arguments)] = (worker, run)

    def _next(self, worker: int) -> PackRun | None:
        """The next pack in the queue, on this worker; None if there is none."""
        while self._queue:
            run = self._queue.take(worker)
            if reason := self.limits.reason(run):
                run.close(reason)
            if run.outcomes is None:
                run.place = self._places[worker]
                for observer in self.observers:
                    observer.pack_started(run)
                return run
            self._ended(run)
        return None

    def _lose(self, worker: int, run: PackRun | None, reason: str, more: bool) -> None:
        """A worker died: its pack goes to the front of the queue with its last state, unless that happens too often."""
        self._places.pop(worker, None)
        self._queue.forget(worker)
        self._losses += run is None
        log.warning("a worker died (%s)", reason)
        if run is not None and run.attempt >= ATTEMPTS:
            run.give_up(
                "failed", f"Failed after {{steps}} of {{of}} steps: {ATTEMPTS} workers died of it ({reason})."
            )
            self._ended(run)
        elif run is not None:
            run.attempt += 1
            self._queue.put_back(run)
            if more and self._idle:
                # A replacement may never find room: the dead worker's node may be gone, and the idle one holds its own.
                self._feed(self._idle.pop(), None)
        if self._losses > ATTEMPTS * self._workers:
            raise RuntimeError(f"workers keep dying before they have done anything: {reason}")
        if more and self._open():
            self.executor.replace(worker)
            self._greet(worker)

    def _fail(self, run: PackRun | None, fault: WorkerError) -> None:
        """A pack raised: its configurations have failed, the others go on."""
        cause = fault.__cause__ or fault
        if run is None:
            raise RuntimeError(f"a worker cannot start: {one_line(cause)}") from cause
        log.warning("pack %d failed: %s", run.task.index, one_line(cause), exc_info=cause)
        run.give_up("failed", f"Failed after {{steps}} of {{of}} steps: {one_line(cause)}")
        self._ended(run)

    def _tell_kind(self, kind: StepKind) -> None:
        """Say once how steps are run: a slow way is worth knowing."""
        if kind in self._kinds:
            return
        if kind.mode == "loop" and all(known.mode != "loop" for known in self._kinds):
            log.warning("the model runs as a loop over samples, which is slow: %s", kind.reason)
        log.info("steps are %s: %s", "compiled" if kind.compiled else "not compiled", kind.decision)
        self._kinds.add(kind)

    def _ended(self, run: PackRun) -> None:
        """A pack is done; if some of its configurations have only paused, nobody hears before it is known which."""
        self._unfinished -= 1
        self._meter.pack_ended(run)
        if all(outcome.over for outcome in run.outcomes or ()):
            self._tell_end(run)
        else:
            self._paused.append(run)

    def _tell_paused(self) -> None:
        """It is known of all that have paused whether they go on."""
        for run in self._paused:
            self._meter.pack_ended(run)
            self._tell_end(run)
        self._paused = []

    def _tell_end(self, run: PackRun) -> None:
        for observer in self.observers:
            observer.pack_ended(run)
        run.forget_state()

    def _interrupt(self) -> None:
        """Take what is on its way, then end what is open."""
        self.interrupted = True
        log.warning("interrupted: keeping what is finished and closing runs; Ctrl-C again stops at once")
        deadline = time.monotonic() + GRACE_SECONDS
        while self.executor.concurrent and time.monotonic() < deadline:
            waiting = [handle for handle, (_, run) in self._calls.items() if run is not None]
            if not waiting:
                break
            for handle in self.executor.wait(waiting, POLL_SECONDS):
                self._receive(handle, more=False)
        for run in self.runs:
            if run.outcomes is None:
                started = "Interrupted before it began."
                if run.place or run.last is not None:
                    started = "Interrupted after {steps} of {of} steps."
                run.give_up("interrupted", started)
                self._ended(run)
        self._end_paused("interrupted", "Interrupted after {steps} of {of} steps.")
        self._tell_paused()
