"""Convergence as outcomes tell it: by each guide's own course, wherever and in whatever packs it ran."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vi_dist.cluster.driver import Driver
from vi_dist.cluster.inline_executor import InlineExecutor
from vi_dist.cluster.rungs import Rungs, pack_runs
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import Outcome
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.halving import Halving
from vi_dist.sweep.plan import plan

Configure = Callable[..., Configuration]
MakeSetup = Callable[..., Setup]


@pytest.fixture(scope="module")
def members(configuration: Configure) -> list[Configuration]:
    return [
        configuration(steps=20),
        configuration(guide="full_rank", steps=800, schedule="cosine"),
        configuration(steps=400, learning_rate=0.001),
        configuration(steps=19),
        configuration(guide="delta", steps=400, schedule="cosine"),
        configuration(guide="laplace", steps=20),
    ]


def outcomes(members: list[Configuration], setup: Setup, **driving: object) -> list[Outcome]:
    runs = pack_runs(plan(members, 8), members)
    driver = Driver(runs, setup, InlineExecutor(), **driving)  # type: ignore[arg-type]
    driver.run()
    found = {m: o for run in driver.runs for m, o in zip(run.members, run.outcomes or (), strict=True)}
    return [found[place] for place in range(len(members))]


@pytest.fixture(scope="module")
def whole(members: list[Configuration], toy_setup: MakeSetup) -> list[Outcome]:
    return outcomes(members, toy_setup())


def test_an_outcome_says_whether_it_has_converged(whole: list[Outcome]) -> None:
    assert [outcome.converged for outcome in whole] == ["no", "yes", "no", "", "yes", ""]
    assert whole[0].reason.startswith(
        "Took all 20 steps. Not converged: in the second half of its steps the ELBO"
    )
    assert whole[1].elbo_change < 0.05 < whole[0].elbo_change
    assert whole[1].moved < 0.1 < whole[2].moved
    assert "log joint" in whole[4].reason


def test_chunks_do_not_matter(
    members: list[Configuration], toy_setup: MakeSetup, whole: list[Outcome]
) -> None:
    found = outcomes(members[:3], toy_setup(), chunk_seconds=0.0)
    assert [(one.elbo_change, one.moved) for one in found] == [
        (one.elbo_change, one.moved) for one in whole[:3]
    ]


def test_rungs_change_nothing_and_what_is_stopped_is_not_judged(
    configuration: Configure, toy_setup: MakeSetup
) -> None:
    rates = [0.001, 0.05, 0.02, 0.002]
    members = [configuration(steps=80, learning_rate=rate) for rate in rates]
    whole = outcomes(members, toy_setup())
    rungs = Rungs(members, plan(members, 4), Halving(2, 50), 256)
    driver = Driver(rungs.first, toy_setup(), InlineExecutor(), follow=rungs)
    driver.run()
    found = {
        place: one
        for run in driver.runs
        for place, one in zip(run.members, run.outcomes or (), strict=True)
        if one.over
    }
    assert [found[place].status for place in range(4)] == ["stopped", "finished", "finished", "stopped"]
    for place, one in enumerate(whole):
        if found[place].status == "finished":
            assert (one.converged, one.elbo_change, one.moved) == (
                found[place].converged,
                found[place].elbo_change,
                found[place].moved,
            )
        else:
            assert found[place].converged == ""
