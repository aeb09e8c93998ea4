"""Successive halving over shards: the rungs, the survivors and their numbers of one worker with all rows; killed with
checkpoints damaged, the same bits."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vi_dist.cluster.checkpoints import set_damaged_aside
from vi_dist.cluster.driver import Driver
from vi_dist.cluster.executor import Executor
from vi_dist.cluster.inline_executor import InlineExecutor
from vi_dist.cluster.journal import Journal
from vi_dist.cluster.observer import Observer
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.rungs import Rungs
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.shard_worker import ShardWorker
from vi_dist.cluster.sharding import Sharding
from vi_dist.cluster.task import Chunk, Outcome
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.halving import Halving, Rung
from vi_dist.sweep.plan import plan

RATES = (0.001, 0.03, 0.1, 0.3, 0.01, 0.05)
STEPS = 40


class Killed(BaseException):
    """The end of a driver's process."""


class Killer(Observer):
    """Ends the driver at its so many-th chunk."""

    def __init__(self, chunks: int) -> None:
        self.left = chunks

    def chunk_done(self, run: PackRun, chunk: Chunk) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


class Careful(InlineExecutor):
    """Its worker writes a checkpoint at every call."""

    def open(self, setup: Setup, packs: int) -> int:
        assert setup.shards is not None
        self._worker = ShardWorker(setup, range(setup.shards.count), checkpoint_seconds=-1.0)
        return 1


def swept(
    members: list[Configuration], setup: Setup, executor: Executor | None = None, kill: int = -1
) -> tuple[dict[int, Outcome], list[Rung]]:
    """The last outcome of every configuration, in packs of at most three, and the rungs."""
    ranked: list[Rung] = []
    rungs = Rungs(members, plan(members, 3), Halving(2, 10), setup.samples, ranked=ranked.append)
    for run in rungs.first:
        run.ahead = 3
    driver = Driver(
        rungs.first,
        setup,
        executor or InlineExecutor(raises=True),
        [Killer(kill)],
        follow=rungs,
        chunk_seconds=0.0,
    )
    driver.run()
    found: dict[int, Outcome] = {}
    for run in driver.runs:
        found.update(zip(run.members, run.outcomes or (), strict=True))
    return found, ranked


def test_shards_halve_as_one_worker_does(
    toy_setup: Callable[..., Setup], configuration: Callable[..., Configuration], tmp_path: Path
) -> None:
    def member(seed: int, rate: float) -> Any:
        return configuration(seed=seed, learning_rate=rate, steps=STEPS, dtype="float64")

    members, setup = [member(seed, rate) for seed, rate in enumerate(RATES)], toy_setup()
    whole, rungs = swept(members, setup)
    cut, others = swept(members, replace(setup, shards=Sharding(2, directory=str(tmp_path))))
    assert [rung.stopped for rung in others] == [rung.stopped for rung in rungs]
    assert [outcome.status for _, outcome in sorted(cut.items())].count("finished") == 2
    for place, outcome in whole.items():
        mine = cut[place]
        assert (mine.status, mine.steps) == (outcome.status, outcome.steps)
        assert mine.elbo == pytest.approx(outcome.elbo, rel=1e-8)


def assert_same(one: Outcome, other: Outcome) -> None:
    """Every field but those that hold seconds, bit by bit."""
    for name in (field.name for field in fields(Outcome) if field.name not in ("seconds", "sharding")):
        mine, theirs = getattr(one, name), getattr(other, name)
        if isinstance(mine, dict):
            assert mine.keys() == theirs.keys(), name
            assert all(torch.equal(mine[key], theirs[key]) for key in mine), name
        else:
            assert mine == theirs or (mine != mine and theirs != theirs), (name, mine, theirs)


@pytest.mark.parametrize("kill", [13, 24])
def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before_and_no_bit(
    toy_setup: Callable[..., Setup], configuration: Callable[..., Configuration], kill: int, tmp_path: Path
) -> None:
    members = [
        configuration(seed=seed, learning_rate=rate, steps=STEPS, dtype="float64")
        for seed, rate in enumerate(RATES)
    ]

    def cut(folder: Path) -> Setup:
        return replace(toy_setup(samples=64), shards=Sharding(2, directory=str(folder)))

    undisturbed, rungs = swept(members, cut(tmp_path / "whole"), Careful(raises=True))
    dead = tmp_path / "dead"
    with pytest.raises(Killed):
        swept(members, cut(dead), Journal(Careful(raises=True), dead / "journal"), kill)
    parts = sorted(file.relative_to(dead) for file in dead.rglob("step-*"))
    assert len(parts) > 4
    for number, part in enumerate(parts):
        folder = tmp_path / str(number)
        shutil.copytree(dead, folder)
        content = (folder / part).read_bytes()
        (folder / part).write_bytes(content[: len(content) // 2 * (number % 2)])
        damaged = set_damaged_aside(str(folder))
        assert damaged == {int(part.parent.name.removeprefix("pack-"))}
        journal = Journal(Careful(raises=True), folder / "journal", damaged)
        outcomes, others = swept(members, cut(folder), journal)
        assert [rung.stopped for rung in others] == [rung.stopped for rung in rungs]
        for place, outcome in undisturbed.items():
            assert_same(outcomes[place], outcome)
        assert not list((folder / "set-aside").glob("*")), "no answer is lost"
