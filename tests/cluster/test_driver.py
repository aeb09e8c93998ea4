"""The driver on the inline executor: packs to their ends, whatever happens to one of them."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from vi_dist.cli.progress import describe
from vi_dist.cluster.driver import Driver
from vi_dist.cluster.executor import Handle, WorkerLost
from vi_dist.cluster.inline_executor import InlineExecutor
from vi_dist.cluster.observer import Observer
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.progress import Progress
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import Chunk, PackTask
from vi_dist.errors import ModelError
from vi_dist.sweep.configuration import Configuration

Configure = Callable[..., Configuration]
MakeSetup = Callable[..., Setup]


def runs_of(*packs: Sequence[Configuration]) -> list[PackRun]:
    """Packs of width 8, their members numbered through."""
    runs, first = [], 0
    for index, members in enumerate(packs):
        runs.append(PackRun(PackTask(index, 8, tuple(members)), tuple(range(first, first + len(members)))))
        first += len(members)
    return runs


class Log(Observer):
    """Writes down what a driver tells."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pack_started(self, run: PackRun) -> None:
        self.told.append(f"start {run.task.index}")

    def chunk_done(self, run: PackRun, chunk: Chunk) -> None:
        self.told.append("chunk")

    def pack_ended(self, run: PackRun) -> None:
        self.told.append(f"end {run.task.index}")


class LosesASecondWorker(InlineExecutor):
    """Two workers here. The second dies of its first steps, once the first has nothing to do, and none replaces it."""

    def __init__(self) -> None:
        super().__init__()
        self._second: dict[Handle, str] = {}
        self._unplaced: list[Handle] = []
        self._lost = False

    def open(self, setup: Setup, packs: int) -> int:
        return 1 + super().open(setup, packs)

    def submit(self, worker: int, method: str, *arguments: Any) -> Handle:
        call = super().submit(worker, method, *arguments)
        if worker == 1 and self._lost:
            self._unplaced.append(call)
        elif worker == 1:
            self._second[call] = method
        return call

    def wait(self, handles: Sequence[Handle], timeout: float) -> list[Handle]:
        waiting = [
            call for call in handles if self._second.get(call) != "advance" and call not in self._unplaced
        ]
        if not waiting:
            assert not self._lost, "nobody works, and there is a pack left"
            waiting = list(handles)
        return waiting if self._second.get(waiting[0]) == "advance" else super().wait(waiting, timeout)

    def result(self, handle: Handle) -> Any:
        if self._second.get(handle) == "advance":
            raise WorkerLost("its node is gone")
        return super().result(handle)

    def replace(self, worker: int) -> None:
        assert worker == 1
        self._lost = True


def test_a_pack_whose_worker_is_lost_goes_to_one_that_is_idle(
    toy_setup: MakeSetup, configuration: Configure
) -> None:
    runs = runs_of([configuration(seed=0)], [configuration(seed=1)])
    Driver(runs, toy_setup(), LosesASecondWorker()).run()
    assert sorted(run.attempt for run in runs) == [1, 2]
    assert [run.outcomes[0].status for run in runs if run.outcomes] == ["finished", "finished"]


class TwoInTurns(InlineExecutor):
    """Two workers here, of which each call is done before the other's next one."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[int, int]] = []
        self._last = 1

    def open(self, setup: Setup, packs: int) -> int:
        return 1 + super().open(setup, packs)

    def submit(self, worker: int, method: str, *arguments: Any) -> Handle:
        if arguments and (worker, arguments[0].index) not in self.taken:
            self.taken.append((worker, arguments[0].index))
        call = super().submit(worker, method, *arguments)
        self._workers = {**getattr(self, "_workers", {}), call: worker}
        return call

    def wait(self, handles: Sequence[Handle], timeout: float) -> list[Handle]:
        others = [call for call in handles if self._workers[call] != self._last]
        done = super().wait(others or list(handles), timeout)
        self._last = self._workers[done[0]]
        return done


def test_workers_begin_with_different_programs_and_stay_with_them(
    toy_setup: MakeSetup, configuration: Configure
) -> None:
    guides = ("mean_field", "mean_field", "full_rank", "full_rank", "delta")
    runs = runs_of(*([configuration(guide=guide, seed=seed)] for seed, guide in enumerate(guides)))
    executor = TwoInTurns()
    Driver(runs, toy_setup(), executor).run()
    assert executor.taken[:4] == [(0, 0), (1, 2), (0, 1), (1, 3)]
    assert sorted(index for _, index in executor.taken) == [0, 1, 2, 3, 4]


class EverySecondTime(InlineExecutor):
    """A worker that every other wait finds busy."""

    waits = 0

    def wait(self, handles: Sequence[Handle], timeout: float) -> list[Handle]:
        self.waits += 1
        return [] if self.waits % 2 else super().wait(handles, timeout)


@pytest.mark.parametrize(("executor", "turns"), [(EverySecondTime, 3), (InlineExecutor, 0)])
def test_what_is_done_aside_takes_turns_while_workers_are_busy(
    toy_setup: MakeSetup, configuration: Configure, executor: type[InlineExecutor], turns: int
) -> None:
    aside = iter(range(3))
    runs = runs_of([configuration(seed=0)], [configuration(seed=1)])
    Driver(runs, toy_setup(), executor(), aside=aside).run()
    assert [run.outcomes[0].status for run in runs if run.outcomes] == ["finished", "finished"]
    assert 3 - len(list(aside)) == turns


def test_every_pack_comes_to_its_end(
    toy_setup: MakeSetup, configuration: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    runs = runs_of(
        [configuration(seed=0), configuration(seed=1, steps=10)], [configuration(guide="full_rank")]
    )
    seen: list[Progress] = []
    log = Log()
    driver = Driver(runs, toy_setup(), InlineExecutor(), [log], callback=seen.append, chunk_seconds=0.02)
    with caplog.at_level(logging.INFO, logger="vi_dist"):
        driver.run()
    assert caplog.text.count("steps are not compiled: compile: never") == 1
    outcomes = [outcome for run in runs for outcome in run.outcomes or ()]
    assert [(outcome.status, outcome.steps) for outcome in outcomes] == [
        ("finished", n) for n in (30, 10, 30)
    ]
    assert [len(curves["train/loss"]) for run in runs for curves in run.curves()] == [30, 10, 30]
    assert [told for told in log.told if told != "chunk"] == ["start 0", "end 0", "start 1", "end 1"]
    last = seen[-1]
    assert (last.done, last.total, last.steps_done, last.steps_total) == (3, 3, 70, 70)
    assert last.best is not None and last.best[1] == max(outcome.elbo for outcome in outcomes)
    seconds = driver.timings.seconds()
    assert seconds["stepping"] > 0 and seconds["evaluation"] > 0
    assert sum(value for name, value in seconds.items() if name != "wall") == pytest.approx(
        seconds["wall"], rel=0.05
    )


def test_a_pack_that_raises_takes_no_other_down(toy_setup: MakeSetup, configuration: Configure) -> None:
    faulty = configuration(guide={"structured": {"blocks": "nobody"}})
    runs = runs_of([faulty], [configuration()])
    Driver(runs, toy_setup(), InlineExecutor()).run()
    failed, finished = runs[0].outcomes, runs[1].outcomes
    assert failed is not None and failed[0].status == "failed"
    assert "nobody" in failed[0].reason and "0 of 30 steps" in failed[0].reason
    assert finished is not None and finished[0].status == "finished"


def test_one_fit_here_and_now_raises_what_the_model_raises(
    toy_setup: MakeSetup, configuration: Configure
) -> None:
    faulty = configuration(guide={"structured": {"blocks": "nobody"}})
    with pytest.raises(ModelError, match="nobody"):
        Driver(runs_of([faulty]), toy_setup(), InlineExecutor(raises=True)).run()


def test_ctrl_c_keeps_what_is_finished_and_ends_the_rest(
    toy_setup: MakeSetup, configuration: Configure
) -> None:
    runs = runs_of([configuration()], [configuration(steps=100_000)], [configuration()])

    def interrupt(moment: Progress) -> None:
        if moment.done == 1 and moment.steps_done > 30:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    log = Log()
    driver = Driver(runs, toy_setup(), InlineExecutor(), [log], callback=interrupt, chunk_seconds=0.05)
    driver.run()
    assert driver.interrupted
    assert signal.getsignal(signal.SIGINT) is before
    (first,), (second,), (third,) = (run.outcomes or () for run in runs)
    assert (first.status, second.status, third.status) == ("finished", "interrupted", "interrupted")
    assert 0 < second.steps < 100_000
    assert second.reason == f"Interrupted after {second.steps} of 100000 steps."
    assert third.reason == "Interrupted before it began."
    assert len(runs[1].curves()[0]["train/loss"]) == second.steps
    assert [told for told in log.told if told.startswith("end")] == ["end 0", "end 1", "end 2"]


def test_ctrl_c_twice_stops_at_once(toy_setup: MakeSetup, configuration: Configure) -> None:
    def insist(moment: Progress) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    driver = Driver(runs_of([configuration(steps=100_000)]), toy_setup(), InlineExecutor(), callback=insist)
    with pytest.raises(KeyboardInterrupt):
        driver.run()


def test_a_diverged_configuration_is_told_so_even_when_interrupted(
    toy_setup: MakeSetup, configuration: Configure
) -> None:
    runs = runs_of([configuration(steps=100_000), configuration(steps=100_000, learning_rate=1e30)])

    moments: list[Progress] = []
    asked: list[Progress] = []

    def interrupt(moment: Progress) -> None:
        moments.append(moment)
        if moment.steps_done > 200 and not asked:
            asked.append(moment)
            os.kill(os.getpid(), signal.SIGINT)

    Driver(runs, toy_setup(), InlineExecutor(), callback=interrupt, chunk_seconds=0.05).run()
    assert [outcome.status for outcome in runs[0].outcomes or ()] == ["interrupted", "diverged"]
    last = moments[-1]
    assert (last.done, last.total, last.cut_off) == (2, 2, 1)
    assert describe(last).startswith("1/2 configurations, interrupted, writing results")
    assert np.isnan([outcome.elbo for outcome in runs[0].outcomes or ()]).all()
