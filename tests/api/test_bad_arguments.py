"""An argument that is none is refused in words that name it, before another package sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributions import Normal

from vi_dist import Experiment, Fit, Model, random_variable
from vi_dist.api.arguments import names
from vi_dist.api.sweep_result import SweepResult
from vi_dist.errors import SpecError


@random_variable
def mu() -> Any:
    return Normal(0.0, 1.0)


@random_variable
def y() -> Any:
    return Normal(mu(), torch.ones(3))


def build(data: Any) -> Model:
    return Model([mu()], {y(): torch.tensor([1.0, 2.0, 3.0])})


@pytest.fixture(scope="module")
def fit() -> Fit:
    return Experiment(build, name="toy").fit(steps=3, num_samples=2, samples=16, compile="never")


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "5", None, [2], float("nan"), 10**12, 10**400])
@pytest.mark.parametrize("method", ["sample", "predict", "to_inference_data"])
def test_a_number_of_draws(fit: Fit, method: str, n: Any) -> None:
    with pytest.raises(SpecError) as caught:
        getattr(fit, method)(n)
    assert caught.value.key == "n"


def test_a_seed_and_a_truth_value(fit: Fit) -> None:
    for seed in (-1, 2**32, 0.5, "a", None, True):
        with pytest.raises(SpecError) as caught:
            fit.sample(2, seed=seed)  # type: ignore[arg-type]
        assert caught.value.key == "seed"
    for resample in (1, "no", None):
        with pytest.raises(SpecError) as caught:
            fit.sample(2, resample=resample)  # type: ignore[arg-type]
        assert caught.value.key == "resample"
    numbers: Any = np.int64(2)
    assert len(fit.sample(numbers, seed=numbers)["mu"]) == 2


@pytest.mark.parametrize("path", [None, 5, b"folder", "", "a\0b", ["a"]])
def test_a_path(fit: Fit, path: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: fit.save(path),
        lambda: Fit.load(path, build),
        lambda: SweepResult.load(path),
        lambda: Experiment.from_spec(path),
        lambda: Experiment(build, name="toy").resume(path),
    ]
    for call in calls:
        with pytest.raises(SpecError, match="is no path"):
            call()


def test_an_experiment() -> None:
    for name in (None, 5, "", "a/b", "x" * 300, " "):
        with pytest.raises(SpecError) as caught:
            Experiment(build, name=name)  # type: ignore[arg-type]
        assert caught.value.key == "name"
    for dtype in ("float16", torch.float32, None):
        with pytest.raises(SpecError) as caught:
            Experiment(build, name="toy", dtype=dtype)  # type: ignore[arg-type]
        assert caught.value.key == "dtype"
    for wrong in (None, 5, "model.py:build"):
        with pytest.raises(SpecError) as caught:
            Experiment(wrong, name="toy")  # type: ignore[arg-type]
        assert caught.value.key == "build"
    with pytest.raises(SpecError, match="cannot be called"):
        Experiment(build, name="toy").fit(progress=5)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="dotted keys"):
        Experiment.from_spec("sweep.yaml", ["steps=5"])  # type: ignore[arg-type]


def test_a_build_of_a_saved_fit(fit: Fit, tmp_path: Path) -> None:
    fit.save(tmp_path)
    for wrong in (None, 5, "build", "model.py:", "/nowhere/model.py:build", "a\0b.py:build"):
        with pytest.raises(SpecError):
            Fit.load(tmp_path, wrong)


def test_keys_in_the_forms_that_tables_give_them() -> None:
    for keys in (["a", "1"], ("a", 1), np.array(["a", "1"]), pd.Series(["a", "1"])):
        assert names(keys) == ["a", "1"]
    assert names(None) is None
    for wrong in ("a", 1, [], [None], [True], [["a"]], {"a": 1}, iter(["a"]), 1.5):
        with pytest.raises(SpecError) as caught:
            names(wrong)
        assert caught.value.key == "keys"
