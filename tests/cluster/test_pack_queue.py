"""The queue of packs gives what a search through a plain list would."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable

import pytest

from vi_dist.cluster.pack_queue import PackQueue
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.task import PackTask
from vi_dist.sweep.configuration import Configuration

Configure = Callable[..., Configuration]


class PlainList:
    """The same rule, by looking at every pack."""

    def __init__(self) -> None:
        self.runs: list[PackRun] = []
        self.made: dict[int, set[Hashable]] = {}

    def take(self, worker: int) -> PackRun:
        own = self.made.setdefault(worker, set())
        anyone = set().union(*self.made.values())
        programs = [run.task.program for run in self.runs]
        known = (k for k, program in enumerate(programs) if program in own)
        new = (k for k, program in enumerate(programs) if program not in anyone)
        run = self.runs.pop(next(known, next(new, 0)))
        own.add(run.task.program)
        return run


@pytest.mark.parametrize("seed", range(20))
def test_the_queue_gives_what_a_search_through_all_would(seed: int, configuration: Configure) -> None:
    chance = random.Random(seed)
    samples = [configuration(num_samples=k + 1) for k in range(4)]
    queue, plain = PackQueue(), PlainList()
    index = 0
    for _ in range(60):
        if chance.random() < 0.4 or not queue:
            more = [
                PackRun(PackTask(index + k, 8, (chance.choice(samples),)), (index + k,)) for k in range(3)
            ]
            index += 3
            queue.add(more)
            plain.runs += more
        worker = chance.randrange(3)
        if chance.random() < 0.1:
            queue.forget(worker)
            plain.made.pop(worker, None)
        taken, expected = queue.take(worker), plain.take(worker)
        assert taken is expected
        if chance.random() < 0.2:
            queue.put_back(taken)
            plain.runs.insert(0, taken)
        assert bool(queue) == bool(plain.runs)


def test_packs_that_have_taken_no_step_leave_together(configuration: Configure) -> None:
    runs = [PackRun(PackTask(k, 8, (configuration(num_samples=k % 2 + 1),)), (k,)) for k in range(5)]
    queue = PackQueue(runs)
    assert queue.take(0) is runs[0]
    assert queue.take_unbegun() == runs[1:]
    assert not queue
