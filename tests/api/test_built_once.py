"""Whatever a sweep is asked for, each model is built once in a process: one for each precision and part of the rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.distributions import Normal

import vi_dist
from vi_dist import Model, random_variable

DATA = {"x": np.linspace(-1, 1, 20), "y": np.linspace(-2, 3, 20)}

Build = Callable[[dict[str, torch.Tensor]], Model]
Built = Counter[tuple[torch.dtype, int]]


def counted() -> tuple[Build, Built]:
    """A regression, and how often it was built in which precision on how many rows."""
    built: Built = Counter()

    def regression(data: dict[str, torch.Tensor]) -> Model:
        x, y = data["x"], data["y"]
        built[x.dtype, len(x)] += 1

        @random_variable
        def slope():
            return Normal(torch.zeros(()), 1.0)

        @random_variable
        def outcome():
            return Normal(slope() * x, 0.5)

        return Model([slope()], {outcome(): y})

    return regression, built


def test_a_fit() -> None:
    build, built = counted()
    fit = vi_dist.Experiment(build, data=DATA, name="once").fit(
        {"full_rank": {"whiten": True}},
        steps=30,
        samples=64,
        compile="never",
        initialisation="values",
        initial_values={"slope": 0.1},
    )
    fit.sample(8, resample=True)
    fit.predict(2)
    assert built == {(torch.float32, 20): 1, (torch.float64, 20): 1}


def test_a_sweep_with_all_that_looks_at_the_model(tmp_path: Path) -> None:
    build, built = counted()
    reference = tmp_path / "reference.json"
    reference.write_text(json.dumps({"slope": {"mean": 2.0, "sd": 0.1}}))
    result = vi_dist.Experiment(build, data=DATA, name="once").sweep(
        {"guide": ["mean_field", {"full_rank": {"whiten": True}}], "seed": [0, 1]},
        steps=40,
        holdout=0.2,
        objective="elpd",
        reference=reference,
        halving={"eta": 2, "min_steps": 20},
        evaluation={"samples": 64},
        initialisation="values",
        initial_values={"slope": 0.1},
        executor="inline",
        compile="never",
        tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
        output_dir=tmp_path / "out",
    )
    result.best().sample(8, resample=True)
    assert built == {
        (torch.float32, 16): 1,
        (torch.float64, 16): 1,
        (torch.float64, 4): 1,
        (torch.float32, 20): 1,
        (torch.float64, 20): 1,
    }


def test_a_sweep_of_two_shards(tmp_path: Path) -> None:
    build, built = counted()
    vi_dist.Experiment(build, data=DATA, name="once", dtype="float64").sweep(
        {"guide": [{"full_rank": {"whiten": True}}]},
        steps=20,
        shards=2,
        evaluation={"samples": 64},
        executor="inline",
        compile="never",
        tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
        output_dir=tmp_path / "out",
    )
    # Each shard once; and, to see whether parts add up, the rows of the first as a whole and in two halves.
    assert built == {(torch.float64, 10): 2 + 1, (torch.float64, 5): 2}
