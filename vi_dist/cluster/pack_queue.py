"""The packs that wait for a worker, and which of them a worker takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable

from vi_dist.cluster.pack_run import PackRun


class PackQueue:
    """Packs in order, by program; to take one costs the same however many there are.

    A worker takes the first pack whose program it has made; or else of a program that nobody has made; or else the
    first one. Workers that begin with different programs make them at the same time, and each makes fewer.
    """

    def __init__(self, runs: Iterable[PackRun] = ()) -> None:
        self._places: dict[int, int] = {}
        self._waiting: dict[Hashable, dict[int, PackRun]] = {}
        self._unbegun: dict[int, PackRun] = {}
        self._made: dict[int, set[Hashable]] = {}
        self._makers: Counter[Hashable] = Counter()
        self._first, self._next = 0, 0
        self.add(runs)

    def __bool__(self) -> bool:
        return bool(self._places)

    def add(self, runs: Iterable[PackRun]) -> None:
        """Add packs at the end."""
        for run in runs:
            self._put(run, self._next)
            self._waiting.setdefault(run.task.program, {})[run.task.index] = run
            self._next += 1

    def put_back(self, run: PackRun) -> None:
        """Put a pack whose worker died in front of all others."""
        self._first -= 1
        self._put(run, self._first)
        program = run.task.program
        alike = self._waiting.pop(program, {})
        self._waiting = {program: {run.task.index: run, **alike}, **self._waiting}

    def take(self, worker: int) -> PackRun:
        """Remove and return the pack that this worker runs next."""
        made = self._made.setdefault(worker, set())
        program = self._chosen(made)
        run = next(iter(self._waiting[program].values()))
        self._drop(run)
        if program not in made:
            made.add(program)
            self._makers[program] += 1
        return run

    def _chosen(self, made: set[Hashable]) -> Hashable:
        """The program of the next pack of a worker that has made these."""
        if known := made & self._waiting.keys():
            return min(known, key=self._place)
        new = next((program for program in self._waiting if not self._makers[program]), None)
        return min(self._waiting, key=self._place) if new is None else new

    def take_unbegun(self) -> list[PackRun]:
        """Remove and return all packs that have taken no step."""
        runs = sorted(self._unbegun.values(), key=lambda run: self._places[run.task.index])
        for run in runs:
            self._drop(run)
        return runs

    def forget(self, worker: int) -> None:
        """A worker died, and what it had made is gone."""
        self._makers.subtract(self._made.pop(worker, ()))

    def _put(self, run: PackRun, place: int) -> None:
        self._places[run.task.index] = place
        if run.last is None:
            self._unbegun[run.task.index] = run

    def _drop(self, run: PackRun) -> None:
        index, program = run.task.index, run.task.program
        del self._places[index]
        self._unbegun.pop(index, None)
        alike = self._waiting[program]
        del alike[index]
        if not alike:
            del self._waiting[program]

    def _place(self, program: Hashable) -> int:
        """The place of the first pack of a program."""
        return self._places[next(iter(self._waiting[program]))]
