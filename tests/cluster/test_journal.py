"""The journal: whatever moment a driver dies at, the next one over its journal comes to the same outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from vi_dist.cluster.driver import Driver
from vi_dist.cluster.executor import Executor
from vi_dist.cluster.inline_executor import InlineExecutor
from vi_dist.cluster.journal import Journal
from vi_dist.cluster.observer import Observer
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.rungs import Rungs
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import Chunk
from vi_dist.errors import SpecError
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.halving import Halving
from vi_dist.sweep.plan import Pack

Configure = Callable[..., Configuration]
STEPS, PACKS = 24, 2


class Killed(BaseException):
    """The end of a driver's process."""


class Killer(Observer):
    """Ends the driver once it has been told of so many chunks and packs."""

    def __init__(self, after: int) -> None:
        self.left = after

    def chunk_done(self, run: PackRun, chunk: Chunk) -> None:
        self._count()

    def pack_ended(self, run: PackRun) -> None:
        self._count()

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


@pytest.fixture(scope="module")
def setup(toy_setup: Callable[..., Setup]) -> Setup:
    return toy_setup(samples=64)


@pytest.fixture(scope="module")
def configurations(configuration: Configure) -> Sequence[Configuration]:
    return [configuration(learning_rate=0.01 * (k + 1), steps=STEPS) for k in range(2 * PACKS)]


def run(
    executor: Executor, setup: Setup, configurations: Sequence[Configuration], kill: int = 10**9
) -> list[PackRun]:
    """All packs of a sweep with one rung, in the order of their numbers."""
    packs = [Pack(k, 8, (2 * k, 2 * k + 1)) for k in range(PACKS)]
    rungs = Rungs(configurations, packs, Halving(2, 8), 64)
    for pack in rungs.first:
        pack.ahead = 4  # and one step in every later chunk
    driver = Driver(rungs.first, setup, executor, [Killer(kill)], follow=rungs, chunk_seconds=0.0)
    driver.run()
    return sorted(driver.runs, key=lambda pack: pack.task.index)


def told(runs: Sequence[PackRun]) -> list[object]:
    """Everything that a sweep says of its configurations, without times."""
    return [
        (one.task.index, member, outcome.status, outcome.steps, outcome.elbo, outcome.khat)
        for one in runs
        for member, outcome in zip(one.members, one.outcomes or (), strict=True)
    ]


def curves(runs: Sequence[PackRun]) -> list[bytes]:
    return [np.asarray(values).tobytes() for one in runs for row in one.curves() for values in row.values()]


@pytest.fixture(scope="module")
def undisturbed(setup: Setup, configurations: Sequence[Configuration]) -> list[PackRun]:
    return run(InlineExecutor(), setup, configurations)


@pytest.mark.parametrize("deaths", [(1,), (9, 20, 2, 1)])
def test_a_sweep_that_dies_now_and_then_ends_as_one_that_does_not(
    deaths: Sequence[int],
    setup: Setup,
    configurations: Sequence[Configuration],
    undisturbed: list[PackRun],
    tmp_path: Path,
) -> None:
    for after in deaths:
        with pytest.raises(Killed):
            run(Journal(InlineExecutor(), tmp_path), setup, configurations, after)
    runs = run(Journal(InlineExecutor(), tmp_path), setup, configurations)
    assert told(runs) == told(undisturbed)
    assert curves(runs) == curves(undisturbed)


def test_results_in_any_order_and_lost_workers_are_no_matter(
    setup: Setup,
    configurations: Sequence[Configuration],
    undisturbed: list[PackRun],
    scrambled: Callable[..., Executor],
    tmp_path: Path,
) -> None:
    with pytest.raises(Killed):
        run(Journal(scrambled(2, seed=1, losses=1), tmp_path), setup, configurations, 6)
    runs = run(Journal(scrambled(3, seed=2, losses=1), tmp_path), setup, configurations)
    assert told(runs) == told(undisturbed)


def test_an_answer_that_the_end_tore_is_asked_for_again(
    setup: Setup, configurations: Sequence[Configuration], undisturbed: list[PackRun], tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        run(Journal(InlineExecutor(), tmp_path), setup, configurations, 1)
    file = tmp_path / "0.answers"
    whole = file.read_bytes()
    with file.open("ab") as stream:
        stream.write(whole[: len(whole) // 3])
    assert told(run(Journal(InlineExecutor(), tmp_path), setup, configurations)) == told(undisturbed)


def test_nothing_is_computed_twice(
    setup: Setup, configurations: Sequence[Configuration], tmp_path: Path
) -> None:
    class Counting(InlineExecutor):
        asked = 0

        def submit(self, worker: int, method: str, *arguments: object) -> object:  # type: ignore[override]
            self.asked += method != "place"
            return super().submit(worker, method, *arguments)

    run(Journal(Counting(), tmp_path), setup, configurations)
    again = Counting()
    run(Journal(again, tmp_path), setup, configurations)
    assert again.asked == 0


def test_two_processes_do_not_write_one_journal(tmp_path: Path) -> None:
    first = Journal(InlineExecutor(), tmp_path)
    with pytest.raises(SpecError, match="under way in another process"):
        Journal(InlineExecutor(), tmp_path)
    first.close()
    Journal(InlineExecutor(), tmp_path).forget()
    assert not tmp_path.exists()
