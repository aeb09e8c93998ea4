"""The queue of packs: a worker goes on with programs that it has made, and begins with ones that nobody has."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable

import pytest

from vi_dist.cluster.pack_queue import PackQueue
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.task import PackTask
from vi_dist.sweep.configuration import Configuration

Configure = Callable[..., Configuration]


@pytest.mark.parametrize("seed", range(10))
def test_a_worker_keeps_to_its_programs_and_then_takes_new_ones(seed: int, configuration: Configure) -> None:
    chance = random.Random(seed)
    samples = [configuration(num_samples=k + 1) for k in range(4)]
    queue, waiting, made = PackQueue(), list[PackRun](), dict[int, set[Hashable]]()
    for turn in range(60):
        if chance.random() < 0.4 or not queue:
            places = range(3 * turn, 3 * turn + 3)
            more = [PackRun(PackTask(place, 8, (chance.choice(samples),)), (place,)) for place in places]
            queue.add(more)
            waiting += more
        worker = chance.randrange(3)
        if chance.random() < 0.1:
            queue.forget(worker)
            made.pop(worker, None)
        taken = queue.take(worker)
        own, anyone = made.setdefault(worker, set()), set().union(*made.values())
        program, programs = taken.task.program, [run.task.program for run in waiting]
        assert program in own or not own & set(programs)
        assert program in own or program not in anyone or anyone >= set(programs)
        assert taken is waiting[programs.index(program)]
        waiting.remove(taken)
        own.add(program)
        if chance.random() < 0.2:
            queue.put_back(taken)
            waiting.insert(0, taken)
        assert bool(queue) == bool(waiting)


def test_packs_that_have_taken_no_step_leave_together(configuration: Configure) -> None:
    runs = [PackRun(PackTask(k, 8, (configuration(num_samples=k % 2 + 1),)), (k,)) for k in range(5)]
    queue = PackQueue(runs)
    assert queue.take(0) is runs[0]
    assert queue.take_unbegun() == runs[1:]
    assert not queue
