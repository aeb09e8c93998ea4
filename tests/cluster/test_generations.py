"""A search in generations on the driver: what is asked and stopped does not depend on who ran it, or when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from vi_dist.api.catalogue import catalogue
from vi_dist.cluster.driver import Driver
from vi_dist.cluster.executor import Executor
from vi_dist.cluster.generations import Generations
from vi_dist.cluster.inline_executor import InlineExecutor
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.rungs import Rungs
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import Outcome
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.halving import Halving
from vi_dist.sweep.plan import plan
from vi_dist.sweep.search import TpeSearch
from vi_dist.sweep.spec import make_spec

MakeSetup = Callable[..., Setup]

SPEC: dict[str, Any] = {
    "name": "toy",
    "space": {
        "learning_rate": {"low": 0.001, "high": 1e4, "log": True},
        "divergence": ["kl_reverse", {"amari": {"alpha": {"low": 0.2, "high": 0.8}}}],
    },
    "search": "tpe",
    "configurations": 18,
    "generation": 8,
    "steps": 40,
    "num_samples": 4,
}


def searched(
    setup: Setup, executor: Executor | None = None, **options: Any
) -> tuple[list[Configuration], dict[int, Outcome], list[PackRun]]:
    """Everything that a search asked for, and what became of it."""
    search = TpeSearch(make_spec(SPEC), catalogue())
    configurations = search.ask()
    halving = Halving(2, 10)

    def rungs(first_place: int, first_index: int) -> Rungs:
        packs = plan(configurations[first_place:], 4, first_place=first_place, first_index=first_index)
        return Rungs(configurations, packs, halving, setup.samples, kinds=search.kinds, rounds=3)

    latest = rungs(0, 0)

    def open_next(asked: Sequence[Configuration]) -> Rungs:
        nonlocal latest
        configurations.extend(asked)
        latest = rungs(len(configurations) - len(asked), latest.next_index)
        return latest

    follow = Generations(search, latest, open_next)
    driver = Driver(latest.first, setup, executor or InlineExecutor(), follow=follow, **options)
    driver.run()
    outcomes = {
        member: outcome
        for run in driver.runs
        for member, outcome in zip(run.members, run.outcomes or (), strict=True)
        if outcome.over
    }
    return configurations, outcomes, driver.runs


@pytest.fixture(scope="module")
def inline(toy_setup: MakeSetup) -> tuple[list[Configuration], dict[int, Outcome], list[PackRun]]:
    return searched(toy_setup())


def test_all_generations_run_to_their_ends(
    inline: tuple[list[Configuration], dict[int, Outcome], list[PackRun]],
) -> None:
    configurations, outcomes, runs = inline
    assert len(set(configurations)) == 18
    assert sorted(outcomes) == list(range(18))
    assert [run.task.index for run in runs] == list(range(len(runs)))
    statuses = [outcomes[place].status for place in range(18)]
    assert {"finished", "stopped"} <= set(statuses)
    for first in (0, 8, 16):  # every generation is halved by itself
        assert "finished" in statuses[first : first + 8]
    kinds = {run.task.kinds for run in runs}
    assert len(kinds) == 1, "one program serves all generations"
    assert len({run.task.program_steps for run in runs if len(run.members) == 4 and not run.first.any()}) == 1


def test_workers_arrivals_chunks_and_losses_change_nothing(
    inline: tuple[list[Configuration], dict[int, Outcome], list[PackRun]],
    toy_setup: MakeSetup,
    scrambled: Callable[..., Any],
) -> None:
    executor = scrambled(3, 5, 2)
    configurations, outcomes, _ = searched(toy_setup(), executor, chunk_seconds=0.01)
    assert executor.losses == 0
    assert configurations == inline[0]
    assert [one.name for one in configurations] == [one.name for one in inline[0]]
    for place, outcome in inline[1].items():
        other = outcomes[place]
        assert (outcome.status, outcome.reason, outcome.steps) == (other.status, other.reason, other.steps)
        assert np.array_equal(outcome.elbo, other.elbo, equal_nan=True)
