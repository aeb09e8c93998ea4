"""Successive halving over shards: the rungs, the survivors and their numbers of one worker with all rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vi_dist.cluster.driver import Driver
from vi_dist.cluster.inline_executor import InlineExecutor
from vi_dist.cluster.rungs import Rungs
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.sharding import Sharding
from vi_dist.cluster.task import Outcome
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.halving import Halving, Rung
from vi_dist.sweep.plan import plan

RATES = (0.001, 0.03, 0.1, 0.3, 0.01, 0.05)
STEPS = 40


def swept(members: list[Configuration], setup: Setup) -> tuple[dict[int, Outcome], list[Rung]]:
    """The last outcome of every configuration, in packs of at most three, and the rungs."""
    ranked: list[Rung] = []
    rungs = Rungs(members, plan(members, 3), Halving(2, 10), setup.samples, ranked=ranked.append)
    driver = Driver(rungs.first, setup, InlineExecutor(raises=True), follow=rungs)
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
