"""The driver on real Ray actors: the same numbers as inline, whatever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.driver import ATTEMPTS, Driver
from vi_dist.cluster.executor import Executor
from vi_dist.cluster.inline_executor import InlineExecutor
from vi_dist.cluster.observer import Observer
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.progress import Progress
from vi_dist.cluster.ray_executor import RayExecutor
from vi_dist.cluster.rungs import Rungs
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import CURVES, Outcome, PackTask, Place
from vi_dist.errors import SpecError
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.halving import Halving, Rung
from vi_dist.sweep.plan import plan

Configure = Callable[..., Configuration]
MakeSetup = Callable[..., Setup]

pytestmark = pytest.mark.slow


def packs(configuration: Configure, steps: int = 400) -> list[PackRun]:
    """Two packs of two programs, one member of which diverges."""
    first = [configuration(steps=steps, seed=0), configuration(steps=steps, seed=1, learning_rate=1e30)]
    second = [configuration(steps=steps, guide="full_rank", divergence={"amari": {"alpha": 0.5}}, seed=2)]
    return [PackRun(PackTask(0, 8, tuple(first)), (0, 1)), PackRun(PackTask(1, 8, tuple(second)), (2,))]


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


@pytest.fixture(scope="module")
def inline(toy_setup: MakeSetup, configuration: Configure) -> list[PackRun]:
    runs = packs(configuration)
    Driver(runs, toy_setup(), InlineExecutor()).run()
    return runs


def test_an_actor_killed_in_mid_sweep_changes_nothing(
    local_ray: str, toy_setup: MakeSetup, configuration: Configure, inline: list[PackRun]
) -> None:
    runs = packs(configuration)
    killed: list[int] = []

    def kill_once(moment: Progress) -> None:
        busy = [
            run for run in runs if run.last is not None and run.outcomes is None and run.place is not None
        ]
        if busy and not killed:
            assert busy[0].place is not None
            killed.append(busy[0].task.index)
            os.kill(busy[0].place.pid, signal.SIGKILL)

    driver = Driver(runs, toy_setup(), RayExecutor(max_actors=2), callback=kill_once, chunk_seconds=0.1)
    driver.run()
    assert killed, "the sweep was too quick for the test"
    assert [run.attempt for run in runs].count(2) == 1
    places = {run.place.pid for run in runs if run.place is not None}
    assert os.getpid() not in places
    assert_same(runs, inline)


def test_rungs_stop_the_same_on_actors_that_die(
    local_ray: str, toy_setup: MakeSetup, configuration: Configure
) -> None:
    members = [configuration(steps=270, seed=k, learning_rate=0.001 * 2**k) for k in range(8)]
    members += [configuration(steps=270, seed=k, guide="full_rank") for k in range(4)]

    def swept(executor: Executor, **options: Any) -> tuple[list[Rung], dict[int, Outcome]]:
        ranked: list[Rung] = []
        rungs = Rungs(members, plan(members, 3), Halving(3, 30), 256, ranked=ranked.append)
        driver = Driver(rungs.first, toy_setup(), executor, follow=rungs, **options)
        driver.run()
        found = [
            pair
            for run in driver.runs
            for pair in zip(run.members, run.outcomes or (), strict=True)
            if pair[1].over
        ]
        return ranked, dict(found)

    killed: list[int] = []

    def kill_once(moment: Progress) -> None:
        # The driver's process has the actors as children of its raylet: one of those that step dies.
        pids = {place.pid for place in places if place.pid != os.getpid()}
        if pids and not killed:
            killed.append(min(pids))
            os.kill(min(pids), signal.SIGKILL)

    places: list[Place] = []

    class Places(Observer):
        """Where packs began."""

        def pack_started(self, run: PackRun) -> None:
            if run.place is not None:
                places.append(run.place)

    here = swept(InlineExecutor())
    there = swept(RayExecutor(max_actors=2), observers=[Places()], callback=kill_once, chunk_seconds=0.05)
    assert killed
    assert here[0] == there[0]
    for place, outcome in here[1].items():
        other = there[1][place]
        assert (outcome.status, outcome.reason) == (other.status, other.reason)
        assert all(leaf.equal(other.leaves[name]) for name, leaf in outcome.leaves.items())


def test_a_model_that_kills_its_actors_is_given_up(
    local_ray: str, toy_setup: MakeSetup, configuration: Configure
) -> None:
    runs = [PackRun(PackTask(0, 1, (configuration(),)), (0,))]
    Driver(runs, toy_setup("build_dying"), RayExecutor()).run()
    assert runs[0].outcomes is not None
    (outcome,) = runs[0].outcomes
    assert outcome.status == "failed"
    assert f"{ATTEMPTS} workers died" in outcome.reason


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


_ENVIRONMENT = """
import sys
from pathlib import Path

from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.ray_executor import RayExecutor
from vi_dist.cluster.setup import Setup

executor = RayExecutor(max_actors=1, cpus=1)
executor.open(Setup(BuildSource(path=sys.argv[1])), 1)
call = executor.submit(0, "place")
executor.wait([call], 120.0)
print(Path(f"/proc/{executor.result(call).pid}/environ").read_text())
executor.close()
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads a process's environment")
def test_actors_of_our_own_ray_have_their_environment_from_the_start(tmp_path: Path) -> None:
    """Not only from Ray's first task on: libraries read it when they are imported."""
    model = tmp_path / "model.py"
    model.write_text("from vi_dist import Model\n\n\ndef build():\n    return Model([], {})\n")
    done = subprocess.run(
        [sys.executable, "-c", _ENVIRONMENT, f"{model}:build"],
        env={**os.environ, "OMP_NUM_THREADS": "7", "MKL_CBWR": "COMPATIBLE"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"OMP_NUM_THREADS=1", "MKL_CBWR=AUTO"} <= set(done.stdout.split("\0"))


def test_nobody_at_the_address_is_told_at_once() -> None:
    with pytest.raises(SpecError, match="no Ray cluster answers at '127.0.0.1:9'") as caught:
        RayExecutor(address="127.0.0.1:9").prepare()
    assert caught.value.key == "address"
