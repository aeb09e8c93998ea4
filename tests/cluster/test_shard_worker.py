"""Workers of shards: the same fit for any count, from checkpoints too, and nobody holds another's rows."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.checkpoints import Checkpoints
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.shard_state import ShardState
from vi_dist.cluster.shard_worker import ShardWorker
from vi_dist.cluster.sharding import Sharding, check_sharded
from vi_dist.cluster.task import CURVES, Evaluated, PackTask
from vi_dist.errors import ModelError
from vi_dist.model.shard_rows import shard_rows
from vi_dist.sweep.configuration import Configuration

Configure = Callable[..., Configuration]
ROWS = 61


def data() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    x, group = generator.normal(size=ROWS), generator.integers(0, 7, ROWS)
    return {"x": x, "group": group, "y": 1 + 0.5 * x + 0.3 * group + generator.normal(size=ROWS)}


@pytest.fixture
def setup(toy: Any) -> Callable[..., Setup]:
    """``setup(shards, directory)`` of a model with local levels of groups."""

    def make(count: int, directory: Path | str = "", source: Any = None) -> Setup:
        build = BuildSource(path=f"{toy.__file__}:build_local")
        cut = Sharding(count, "group", str(directory))
        return Setup(build, data() if source is None else source, 256, compile="never", shards=cut)

    return make


@pytest.fixture
def task(configuration: Configure) -> PackTask:
    members = (
        configuration(steps=60, seed=0, dtype="float64"),
        configuration(steps=60, seed=1, dtype="float64", divergence={"amari": {"alpha": 0.5}}),
        configuration(steps=40, seed=2, dtype="float64", divergence="kl_forward", schedule="cosine"),
        configuration(steps=60, seed=3, dtype="float64", learning_rate=1e30),
    )
    return PackTask(0, 8, members)


def fit(worker: ShardWorker, task: PackTask, chunk: int = 25) -> tuple[Evaluated, dict[str, Any]]:
    state, chunks = None, []
    while state is None or chunks[-1].remaining(task):
        chunks.append(worker.advance(task, state, chunk))
        state = chunks[-1].state
    curves = {name: np.concatenate([c.curves[name] for c in chunks])[:60] for name in CURVES}
    return worker.evaluate(task, state), curves


@pytest.mark.parametrize("count", [2, 3])
def test_outcomes_do_not_depend_on_the_shard_count(
    setup: Callable[..., Setup], task: PackTask, count: int, tmp_path: Path
) -> None:
    one, one_curves = fit(ShardWorker(setup(1, tmp_path / "one"), [0]), task)
    some, some_curves = fit(ShardWorker(setup(count, tmp_path / "some"), range(count)), task, 7)
    for name in CURVES[:2]:
        np.testing.assert_allclose(some_curves[name][:40], one_curves[name][:40], rtol=1e-9)
    for mine, other in zip(some.outcomes, one.outcomes, strict=True):
        assert (mine.status, mine.reason, mine.steps) == (other.status, other.reason, other.steps)
        np.testing.assert_allclose((mine.elbo, mine.khat), (other.elbo, other.khat), rtol=1e-6)
    assert [outcome.status for outcome in some.outcomes] == ["finished"] * 3 + ["diverged"]
    assert some.outcomes[0].sharding["shards"] == count
    assert some.outcomes[0].sharding["rows"] == ROWS
    # 2 global coordinates: 8 columns, 8 samples or what the configuration has, 3 numbers of 8 bytes.
    numbers = 8 * task.configurations[0].num_samples * 3
    assert some.outcomes[0].sharding["bytes_per_step"] == numbers * 8
    levels = [levels_of(tmp_path / name, task) for name in ("one", "some")]
    assert sorted(levels[0]["id"]) == list(range(7))
    np.testing.assert_allclose(levels[1]["mean"], levels[0]["mean"], atol=1e-8)


def levels_of(directory: Path, task: PackTask) -> pd.DataFrame:
    folder = directory / "locals" / task.configurations[0].name
    return pd.concat([pd.read_parquet(path) for path in folder.iterdir()]).sort_values("id")


def test_a_fresh_worker_goes_on_from_the_last_checkpoint_of_all_shards(
    setup: Callable[..., Setup], task: PackTask, tmp_path: Path
) -> None:
    expected, _ = fit(ShardWorker(setup(3), range(3)), task)
    made = setup(3, tmp_path)
    first = ShardWorker(made, range(3), checkpoint_seconds=0.0)
    state = first.advance(task, None, 20).state
    state = first.advance(task, state, 13).state
    assert ShardState.from_bytes(state) == ShardState(33)
    kept = Checkpoints(str(tmp_path), 0, 3)
    assert kept.newest(33) == 33
    assert kept.newest(32) == 20, "the one before stays"
    lazy = ShardWorker(made, range(3), checkpoint_seconds=1e9)
    state = lazy.advance(task, state, 10).state
    # The fresh one has neither been at 43 steps nor finds them: it takes ten steps again.
    fresh = ShardWorker(made, range(3))
    while (chunk := fresh.advance(task, state, 10)).remaining(task):
        state = chunk.state
    found = fresh.evaluate(task, chunk.state)
    for mine, other in zip(found.outcomes, expected.outcomes, strict=True):
        assert np.array_equal((mine.elbo, mine.khat), (other.elbo, other.khat), equal_nan=True)
        assert all(leaf.equal(other.leaves[name]) for name, leaf in mine.leaves.items())


def test_a_checkpoint_with_a_part_missing_does_not_count(
    setup: Callable[..., Setup], task: PackTask, tmp_path: Path
) -> None:
    worker = ShardWorker(setup(2, tmp_path), range(2), checkpoint_seconds=0.0)
    worker.advance(task, None, 5)
    kept = Checkpoints(str(tmp_path), 0, 2)
    assert kept.newest(5) == 5
    next((tmp_path / "checkpoints").rglob("*shard-1*")).unlink()
    assert kept.newest(5) == 0


def test_no_worker_holds_the_rows_of_another_shard(setup: Callable[..., Setup], tmp_path: Path) -> None:
    """Rows from a file: after a worker is made ready, no tensor or array as long as all rows is left alive."""
    frame = pd.DataFrame(data())
    frame.to_parquet(tmp_path / "rows.parquet", row_group_size=10)
    made = replace(setup(3, source=str(tmp_path / "rows.parquet")))
    worker = ShardWorker(made, [1])
    rows = worker.prepared(torch.float64)[0].rows
    assert rows is not None
    own = shard_rows(data(), 1, 3, "group")
    assert 0 < rows.rows < ROWS
    assert torch.equal(rows.data["y"], own.data["y"])
    gc.collect()
    reachable: list[Any] = [worker]
    seen: set[int] = set()
    while reachable:
        thing = reachable.pop()
        if (
            id(thing) in seen
            or isinstance(thing, type)
            or (type(thing).__module__ == "builtins" and callable(thing))
        ):
            continue
        seen.add(id(thing))
        if isinstance(thing, torch.Tensor | np.ndarray):
            assert tuple(thing.shape)[:1] != (ROWS,)
            continue
        if isinstance(thing, dict):
            reachable += list(thing.values())
        elif isinstance(thing, list | tuple | set):
            reachable += list(thing)
        elif hasattr(thing, "__dict__"):
            reachable += list(vars(thing).values())


@pytest.mark.parametrize(
    ("build", "words"),
    [
        ("build_short", r"level is local and has shape \(4,\) where this shard has 3 rows"),
        ("build_reading", "shift reads level, which belongs to rows"),
    ],
)
def test_a_model_of_which_a_shard_is_no_part_is_refused(toy: Any, build: str, words: str) -> None:
    rows = shard_rows({"y": np.arange(6.0)}, 0, 2)
    with pytest.raises(ModelError, match=words):
        check_sharded(getattr(toy, build)(rows.data), rows)


# -- batches of rows -----------------------------------------------------------------------------------------------


def batched_setup(
    toy: Any, count: int, size: int | None, directory: Path | str = "", rows: int = 60
) -> Setup:
    """Normal data with unknown mean and known scale, without groups."""
    y = np.random.default_rng(1).normal(0.7, 1.0, rows)
    cut = Sharding(count, directory=str(directory), batch_size=size)
    return Setup(BuildSource(path=f"{toy.__file__}:build_mean"), {"y": y}, 512, compile="never", shards=cut)


def batched_task(configuration: Configure, **values: Any) -> PackTask:
    defaults = {"dtype": "float64", "steps": 60, "divergence": "kl_reverse"}
    return PackTask(0, 1, (configuration(**defaults | values),))


@pytest.mark.parametrize("count", [1, 3])
def test_a_fit_by_batches_reaches_the_known_posterior(toy: Any, configuration: Configure, count: int) -> None:
    setup = batched_setup(toy, count, 150, rows=1000)
    task = batched_task(configuration, steps=300, learning_rate=0.05, schedule="cosine", num_samples=8)
    worker = ShardWorker(setup, range(count))
    found = worker.evaluate(task, worker.advance(task, None, 300).state)
    y = setup.data["y"]  # type: ignore[call-overload,index]
    precision = 1 / 3.0**2 + len(y)
    outcome = found.outcomes[0]
    loc, raw = outcome.leaves["loc"], outcome.leaves["raw_scale"]
    assert float(loc) == pytest.approx(y.sum() / precision, abs=0.3 * precision**-0.5)
    assert float(torch.nn.functional.softplus(raw)) == pytest.approx(precision**-0.5, rel=0.05)
    assert outcome.khat < 0.5
    assert outcome.sharding["rows_per_step"] == 150 * count


def test_batches_are_the_same_after_a_restart_from_a_checkpoint(
    toy: Any, configuration: Configure, tmp_path: Path
) -> None:
    task = batched_task(configuration)
    expected = ShardWorker(batched_setup(toy, 3, 7), range(3))
    undisturbed = expected.evaluate(task, expected.advance(task, None, 60).state)
    made = batched_setup(toy, 3, 7, tmp_path)
    first = ShardWorker(made, range(3), checkpoint_seconds=0.0)
    state = first.advance(task, None, 17).state
    lazy = ShardWorker(made, range(3), checkpoint_seconds=1e9)
    state = lazy.advance(task, state, 14).state
    fresh = ShardWorker(made, range(3))  # begins at 17 steps and takes 14 again
    found = fresh.evaluate(task, fresh.advance(task, state, 29).state)
    for name, leaf in found.outcomes[0].leaves.items():
        assert torch.equal(leaf, undisturbed.outcomes[0].leaves[name])


def test_a_batch_of_all_rows_is_no_batch(toy: Any, configuration: Configure) -> None:
    task = batched_task(configuration)
    leaves = []
    for size in (None, 20, 1000):
        worker = ShardWorker(batched_setup(toy, 3, size), range(3))
        leaves.append(worker.evaluate(task, worker.advance(task, None, 60).state).outcomes[0].leaves)
    for name, leaf in leaves[0].items():
        assert torch.equal(leaf, leaves[1][name])
        assert torch.equal(leaf, leaves[2][name])


def test_a_batch_does_not_depend_on_the_pack(toy: Any, configuration: Configure) -> None:
    """A configuration beside others with other seeds and lengths gets the batches that it would get alone."""
    one, other = (
        configuration(dtype="float64", steps=steps, seed=seed) for steps, seed in ((60, 5), (20, 6))
    )
    leaves = []
    for members in ((one,), (other, one)):
        task = PackTask(0, 8, members, kinds=(one, other))
        worker = ShardWorker(batched_setup(toy, 2, 7), range(2))
        state = worker.advance(task, None, 30).state
        leaves.append(worker.evaluate(task, worker.advance(task, state, 30).state).outcomes[-1].leaves)
    for name, leaf in leaves[0].items():
        torch.testing.assert_close(leaf, leaves[1][name], rtol=1e-12, atol=0)


def test_batches_of_a_model_with_latents_of_rows_are_refused(
    setup: Callable[..., Setup], configuration: Configure
) -> None:
    made = setup(2)
    assert made.shards is not None
    made = replace(made, shards=replace(made.shards, group_by=None, batch_size=5))
    made = replace(made, build=BuildSource(path=made.build.path.replace("build_local", "build_levels")))
    with pytest.raises(ModelError, match="level belongs to rows, and a batch would train"):
        ShardWorker(made, range(2)).advance(batched_task(configuration), None, 1)
