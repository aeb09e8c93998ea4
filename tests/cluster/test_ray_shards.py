"""Shards in Ray actors, with real process groups: the same fit as in one process, whatever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vi_dist.api.checks import _shard_shapes
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.driver import Driver
from vi_dist.cluster.executor import Executor
from vi_dist.cluster.inline_executor import InlineExecutor
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.progress import Progress
from vi_dist.cluster.ray_shards import RayShardExecutor
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.sharding import Sharding
from vi_dist.cluster.task import PackTask
from vi_dist.errors import ModelError
from vi_dist.sweep.configuration import Configuration

pytestmark = pytest.mark.slow
Configure = Callable[..., Configuration]


def setup(toy: Any, count: int, directory: Path, build: str = "build_local") -> Setup:
    generator = np.random.default_rng(0)
    x, group = generator.normal(size=80), generator.integers(0, 9, 80)
    data = {"x": x, "group": group, "y": 1 + 0.5 * x + generator.normal(size=80)}
    cut = Sharding(count, "group", str(directory))
    return Setup(BuildSource(path=f"{toy.__file__}:{build}"), data, 128, compile="never", shards=cut)


def packs(configuration: Configure, steps: int) -> list[PackRun]:
    members = (
        configuration(steps=steps, seed=0, dtype="float64"),
        configuration(steps=steps, seed=1, dtype="float64", divergence="kl_forward", guide="mean_field"),
    )
    return [PackRun(PackTask(0, 8, members), (0, 1))]


def run(runs: list[PackRun], made: Setup, executor: Executor, **options: Any) -> list[PackRun]:
    Driver(runs, made, executor, **options).run()
    return runs


def assert_close(runs: list[PackRun], others: list[PackRun]) -> None:
    for mine, other in zip(runs[0].outcomes or (), others[0].outcomes or (), strict=True):
        assert (mine.status, mine.steps) == (other.status, other.steps) == ("finished", other.steps), (
            mine.reason
        )
        np.testing.assert_allclose((mine.elbo, mine.khat), (other.elbo, other.khat), rtol=1e-6)
        for name, leaf in mine.leaves.items():
            np.testing.assert_allclose(leaf, other.leaves[name], rtol=1e-9, atol=1e-10)


def test_actors_find_the_mode_of_all_rows_together(
    local_ray: str, toy: Any, configuration: Configure, tmp_path: Path
) -> None:
    """A guide in whitened coordinates around the mode: sums of curvatures over a real group."""
    fits = []
    for count, executor in ((1, InlineExecutor()), (2, RayShardExecutor(cpus=0.5, max_actors=2))):
        made = replace(setup(toy, count, tmp_path / str(count), "build"), shards=Sharding(count))
        whitened = configuration(guide={"full_rank": {"whiten": True}}, dtype="float64", steps=10)
        fits.append(run([PackRun(PackTask(0, 1, (whitened,)), (0,))], made, executor))
    assert_close(fits[1], fits[0])


def test_actors_with_a_shard_each_give_the_fit_of_one_process_though_one_is_killed(
    local_ray: str, toy: Any, configuration: Configure, tmp_path: Path
) -> None:
    here = run(packs(configuration, 200), setup(toy, 1, tmp_path / "here"), InlineExecutor())
    runs = packs(configuration, 200)
    killed: list[int] = []

    def kill_once(moment: Progress) -> None:
        place = runs[0].place
        if runs[0].last is not None and runs[0].outcomes is None and place is not None and not killed:
            killed.append(place.pid)
            os.kill(place.pid, signal.SIGKILL)

    made = setup(toy, 2, tmp_path / "there")
    run(runs, made, RayShardExecutor(cpus=0.5), callback=kill_once, chunk_seconds=0.05)
    assert killed, "the fit was too quick for the test"
    assert runs[0].attempt == 2
    assert_close(runs, here)
    assert len(list((tmp_path / "there" / "locals").rglob("*.parquet"))) == 2 * 2


def test_a_model_that_raises_on_one_shard_fails_and_says_why(
    local_ray: str, toy: Any, configuration: Configure, tmp_path: Path
) -> None:
    runs = packs(configuration, 50)
    run(runs, setup(toy, 2, tmp_path, "build_failing"), RayShardExecutor(cpus=0.5))
    assert runs[0].outcomes is not None
    assert {outcome.status for outcome in runs[0].outcomes} == {"failed"}
    assert "no luck here" in runs[0].outcomes[0].reason


def test_shards_are_looked_at_where_their_rows_are(local_ray: str, toy: Any, tmp_path: Path) -> None:
    def look(shard: Setup, rank: int) -> tuple[int, int]:
        rows = shard.cut(rank).rows
        if rows == 80:
            raise ModelError(f"shard {rank} has all rows", key="data")
        return rows, os.getpid()

    executor = RayShardExecutor(cpus=0.5)
    found = executor.on_shards(look, setup(toy, 3, tmp_path))
    assert sum(rows for rows, _ in found) == 80
    assert os.getpid() not in {pid for _, pid in found}
    one, other = executor.on_shards(partial(_shard_shapes, dtype="float64"), setup(toy, 2, tmp_path))
    assert one == other and one
    with pytest.raises(ModelError, match="shard 0 has all rows"):
        executor.on_shards(look, setup(toy, 1, tmp_path))
