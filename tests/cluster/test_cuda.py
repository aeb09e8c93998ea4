"""A worker on a CUDA device; skipped where there is none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vi_dist import Experiment
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import PackTask
from vi_dist.cluster.worker import PackWorker
from vi_dist.sweep.configuration import Configuration

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")

GUIDES: list[Any] = [
    "mean_field",
    "full_rank",
    "laplace",
    "structured",
    {"full_rank": {"whiten": True}},
    {"realnvp": {"transforms": 2, "whiten": True}},
]


@pytest.mark.parametrize("guide", GUIDES, ids=str)
def test_a_worker_there_finds_what_one_here_finds(
    toy_setup: Callable[..., Setup], configuration: Callable[..., Configuration], guide: Any
) -> None:
    members = tuple(configuration("float64", guide=guide, seed=seed, steps=100 + seed) for seed in range(3))
    task = PackTask(0, 8, members)
    ends = []
    for device in ("cpu", "cuda"):
        worker = PackWorker(toy_setup(), device)
        chunk = worker.advance(task, worker.advance(task, None, 70).state, 40)
        ends.append(worker.evaluate(task, chunk.state).outcomes)
    for here, there in zip(*ends, strict=True):
        assert here.status == there.status
        assert here.steps == there.steps
        np.testing.assert_allclose(there.elbo, here.elbo, rtol=1e-6)


def test_a_model_that_branches_runs_as_a_loop_there_too(
    toy_setup: Callable[..., Setup], configuration: Callable[..., Configuration]
) -> None:
    task = PackTask(0, 1, (configuration("float64", steps=5),))
    ends = [PackWorker(toy_setup("build_loop"), device).advance(task, None, 5) for device in ("cpu", "cuda")]
    np.testing.assert_allclose(ends[1].curves["train/loss"], ends[0].curves["train/loss"], rtol=1e-9)


def test_a_fit_there_is_sampled_here(toy: Any) -> None:
    fit = Experiment(toy.build, name="toy", data={"y": np.array(toy.Y)}, dtype="float64").fit(
        steps=300, device="cuda", compile="always"
    )
    other = Experiment(toy.build, name="toy", data={"y": np.array(toy.Y)}, dtype="float64").fit(steps=300)
    assert abs(fit.elbo - other.elbo) < 1e-4
    draws = fit.sample(200)
    assert {name: tuple(value.shape) for name, value in draws.items()} == {
        name: tuple(value.shape) for name, value in other.sample(200).items()
    }


def test_a_device_short_of_memory_halves_until_the_pack_fits(
    toy_setup: Callable[..., Setup],
    configuration: Callable[..., Configuration],
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = replace(toy_setup(), data={"y": np.linspace(-1, 1, 20_000)})
    members = tuple(configuration(steps=4, num_samples=64, seed=seed) for seed in range(64))
    worker = PackWorker(setup, "cuda")
    worker.advance(PackTask(1, 1, members[:1]), None, 1)
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (600 << 20)) / whole)
    try:
        with caplog.at_level(logging.WARNING):
            chunk = worker.advance(PackTask(0, 64, members), None, 4)
            evaluated = worker.evaluate(PackTask(0, 64, members), chunk.state)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert chunk.after.tolist() == [4] * 64
    assert np.isfinite(chunk.curves["train/loss"]).all()
    assert all(np.isfinite(outcome.elbo) for outcome in evaluated.outcomes)
    assert "pack 0 of 64 columns does not fit into memory" in caplog.text
