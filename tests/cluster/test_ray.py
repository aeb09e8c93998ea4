"""The driver on real Ray actors: the same numbers as inline, whatever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vi_dist.cluster import driver
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.driver import Driver
from vi_dist.cluster.executor import Executor
from vi_dist.cluster.inline_executor import InlineExecutor
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.progress import Progress
from vi_dist.cluster.ray_executor import RayExecutor
from vi_dist.cluster.rungs import Rungs
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import CURVES, PackTask
from vi_dist.errors import SpecError
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.halving import Halving, Rung
from vi_dist.sweep.plan import plan

Configure = Callable[..., Configuration]
MakeSetup = Callable[..., Setup]

pytestmark = pytest.mark.slow


def assert_same(runs: list[PackRun], others: list[PackRun]) -> None:
    """Bitwise the same outcomes and curves."""
    for run, other in zip(runs, others, strict=True):
        for mine, theirs in zip(run.outcomes or (), other.outcomes or (), strict=True):
            assert (mine.status, mine.reason, mine.steps) == (theirs.status, theirs.reason, theirs.steps)
            assert np.array_equal((mine.elbo, mine.khat), (theirs.elbo, theirs.khat), equal_nan=True)
            assert mine.leaves.keys() == theirs.leaves.keys()
            assert all(leaf.equal(theirs.leaves[name]) for name, leaf in mine.leaves.items())
        for mine_curves, their_curves in zip(run.curves(), other.curves(), strict=True):
            for name in CURVES:
                np.testing.assert_array_equal(mine_curves[name], their_curves[name])


def test_rungs_on_actors_that_die_are_those_of_one_process(
    local_ray: str, toy_setup: MakeSetup, configuration: Configure
) -> None:
    """The same ranks, outcomes and curves to the last bit, with one that diverges and an actor that is killed."""
    members = [configuration(steps=120, seed=k, learning_rate=0.002 * 3**k) for k in range(4)]
    members += [configuration(steps=120, learning_rate=1e30)]
    members += [configuration(steps=120, guide="full_rank", divergence={"amari": {"alpha": 0.5}})]

    def swept(executor: Executor, **options: Any) -> tuple[list[Rung], list[PackRun]]:
        ranked: list[Rung] = []
        rungs = Rungs(members, plan(members, 3), Halving(2, 60), 256, ranked=ranked.append)
        drivers.append(Driver(rungs.first, toy_setup(), executor, follow=rungs, **options))
        drivers[-1].run()
        return ranked, drivers[-1].runs

    drivers: list[Driver] = []
    killed: list[int] = []

    def kill_once(moment: Progress) -> None:
        for run in drivers[-1].runs:
            if run.last is not None and run.outcomes is None and run.place is not None and not killed:
                killed.append(run.place.pid)
                os.kill(run.place.pid, signal.SIGKILL)

    here = swept(InlineExecutor())
    there = swept(RayExecutor(max_actors=2), callback=kill_once, chunk_seconds=0.02)
    assert killed, "the sweep was too quick for the test"
    assert [run.attempt for run in there[1]].count(2) == 1
    assert os.getpid() not in {run.place.pid for run in there[1] if run.place is not None}
    assert here[0] == there[0]
    assert_same(there[1], here[1])


def test_a_model_that_kills_its_actors_is_given_up(
    local_ray: str, toy_setup: MakeSetup, configuration: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "ATTEMPTS", 2)
    runs = [PackRun(PackTask(0, 1, (configuration(),)), (0,))]
    Driver(runs, toy_setup("build_dying"), RayExecutor()).run()
    assert runs[0].outcomes is not None
    (outcome,) = runs[0].outcomes
    assert outcome.status == "failed"
    assert "2 workers died" in outcome.reason


def test_a_build_of_this_very_module_travels(
    local_ray: str, toy_setup: MakeSetup, configuration: Configure
) -> None:
    scale = 2.0  # a closure, as a notebook's build has

    def build(data: dict[str, object]) -> object:
        import torch
        from torch.distributions import Normal

        from vi_dist import Model, random_variable

        mu = random_variable(lambda: Normal(0.0, scale))
        obs = random_variable(lambda: Normal(mu(), torch.ones(6)))
        return Model([mu()], {obs(): data["y"]})  # type: ignore[dict-item]

    setup = Setup(BuildSource(function=build), toy_setup().data, 64, compile="never")
    here = [PackRun(PackTask(0, 1, (configuration(),)), (0,))]
    there = [PackRun(PackTask(0, 1, (configuration(),)), (0,))]
    Driver(here, setup, InlineExecutor()).run()
    Driver(there, setup, RayExecutor()).run()
    assert_same(there, here)


def test_an_exception_in_an_actor_is_a_reason(
    local_ray: str, toy_setup: MakeSetup, configuration: Configure
) -> None:
    runs = [PackRun(PackTask(0, 1, (configuration(),)), (0,))]
    Driver(runs, toy_setup("build_failing"), RayExecutor()).run()
    assert runs[0].outcomes is not None
    assert runs[0].outcomes[0].status == "failed"
    assert "RuntimeError: no luck here" in runs[0].outcomes[0].reason


def test_what_is_missing_is_named(local_ray: str) -> None:
    assert RayExecutor(gpus=1.0).missing() == "a worker needs 1 GPU and the cluster has 0"


def test_nobody_at_the_address_is_told_at_once() -> None:
    with pytest.raises(SpecError, match="no Ray cluster answers at '127.0.0.1:9'") as caught:
        RayExecutor(address="127.0.0.1:9").prepare()
    assert caught.value.key == "address"
