"""The flights' model on rows made here: shards find the posterior that algebra gives."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from vi_dist.api.catalogue import catalogue
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.shard_worker import ShardWorker
from vi_dist.cluster.sharding import Sharding
from vi_dist.cluster.task import PackTask
from vi_dist.sweep.space import resolve_one
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.noise import NoiseSite, NoiseSpace

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "flights"
ROWS, COEFFICIENTS = 1500, 22


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"flights_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def raw() -> pd.DataFrame:
    """Rows in the form of the package's, some of them incomplete."""
    generator = np.random.default_rng(0)
    prepare = module("prepare")
    distance = generator.uniform(100, 2500, ROWS)
    frame = pd.DataFrame(
        {
            "dep_delay": generator.exponential(20, ROWS) - 5,
            "distance": distance,
            "air_time": distance / 8 + generator.normal(0, 20, ROWS),
            "sched_dep_time": generator.integers(5, 24, ROWS) * 100 + 30,
            "origin": generator.choice(prepare.ORIGINS, ROWS),
            "carrier": generator.choice(prepare.CARRIERS, ROWS),
        }
    )
    frame["arr_delay"] = frame["dep_delay"] + 0.1 * frame["air_time"] + generator.normal(0, 10, ROWS)
    frame.loc[::50, "air_time"] = np.nan
    return frame


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    table = module("prepare").prepared(raw())
    return {name: table[name].to_numpy() for name in table}


@pytest.fixture(scope="module")
def exact(data: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of the coefficients at the most likely scale; that of the scale adds next to nothing."""
    tensors = {name: torch.as_tensor(np.array(column)) for name, column in data.items()}
    x, y = module("model").design(tensors).double(), tensors["y"].double()
    gram = x.T @ x
    least = torch.linalg.solve(gram, x.T @ y)
    variance = (y - x @ least).square().sum() / (len(y) - COEFFICIENTS)
    covariance = torch.linalg.inv(gram / variance + torch.eye(COEFFICIENTS, dtype=torch.float64))
    return covariance @ (x.T @ y / variance), covariance


def test_incomplete_rows_go_and_columns_are_standard(data: dict[str, Any]) -> None:
    assert len(data["y"]) == ROWS - ROWS // 50
    for name in ("y", "dep_delay", "distance", "air_time", "sched_hour"):
        assert abs(data[name].mean()) < 1e-9
        assert abs(data[name].std() - 1) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(("guide", "steps"), [("full_rank", 300), ("mean_field", 1500)])
def test_shards_reach_the_exact_posterior(
    guide: str, steps: int, data: dict[str, Any], exact: tuple[torch.Tensor, torch.Tensor]
) -> None:
    shards, arguments = 2, {"whiten": True} if guide == "full_rank" else {}
    build = BuildSource(path=f"{FOLDER / 'model.py'}:build")
    setup = Setup(build, data, 64, compile="never", shards=Sharding(shards))
    values = {"guide": {guide: arguments}, "steps": steps, "num_samples": 4, "learning_rate": 0.1}
    configuration = resolve_one({**values, "schedule": {"cosine": {"final": 0.001}}}, catalogue(), "float32")
    worker, task = ShardWorker(setup, range(shards)), PackTask(0, 1, (configuration,))
    chunk = worker.advance(task, None, steps)
    (outcome,) = worker.evaluate(task, chunk.state).outcomes
    space = NoiseSpace((NoiseSite("b", COEFFICIENTS), NoiseSite("sigma", 1)))
    family = GUIDES[guide].make(space, **arguments)
    found = family.distribution({name: leaf.double() for name, leaf in outcome.leaves.items()})
    # The steps of independent Gaussians see one direction badly, that of all carriers against the intercept.
    near = 0.1 if guide == "full_rank" else 0.3
    torch.manual_seed(0)
    draws = found.sample((20_000,))[:, :COEFFICIENTS]
    mean, covariance = exact
    sd = covariance.diagonal().sqrt()
    expected = sd if guide == "full_rank" else torch.linalg.inv(covariance).diagonal().rsqrt()
    assert ((draws.mean(0) - mean) / sd).abs().max() < near
    assert (draws.std(0) / expected - 1).abs().max() < 0.15
