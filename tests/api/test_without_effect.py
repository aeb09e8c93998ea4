"""Input that would change nothing is refused, or said."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from vi_dist import Experiment, Model, SpecError, random_variable
from vi_dist.api.planning import plan_sweep
from vi_dist.cluster.build_source import BuildSource
from vi_dist.sweep.spec import make_spec


def shift(data: dict[str, Tensor]) -> Model:
    """A mean, of as many observations as there are."""

    @random_variable
    def mu() -> Distribution:
        return Normal(0.0, 1.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(mu().expand(data["y"].shape), 1.0)

    return Model([mu()], {obs(): data["y"]})


def prior(data: dict[str, Tensor]) -> Model:
    """A model that observes nothing."""

    @random_variable
    def mu() -> Distribution:
        return Normal(0.0, 1.0)

    return Model([mu()], {})


DATA = {"y": np.ones(6)}
PLAIN: dict[str, Any] = {"name": "plain", "executor": "inline", "space": {"seed": [0, 1]}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"address": "ray://head:10001"}, ["address: 'ray://head:10001' has no effect", "executor: ray"]),
        ({"max_actors": 4}, ["max_actors: 4 has no effect"]),
        ({"steps": 500, "space": {"steps": [20, 40]}}, ["steps: 500 has no effect", "space.steps"]),
        (
            {"schedule": "cosine", "space": {"schedule": ["constant", "cosine"]}},
            ["schedule: 'cosine' has no effect", "space.schedule"],
        ),
        ({"averaging": 0.5, "space": {"averaging": [0.1, 0.2]}}, ["averaging: 0.5 has no effect"]),
        (
            {"search": "tpe", "configurations": 3, "space": {"learning_rate": {"low": 0.01, "high": 0.1}}},
            ["search: tpe learns nothing", "first generation of 32 holds all 3"],
        ),
        (
            {"space": {"seed": [0]}, "halving": {"min_steps": 5}},
            ["halving has no effect on one configuration"],
        ),
    ],
)
def test_a_key_that_changes_nothing_is_named(
    change: dict[str, Any], words: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "vi_dist"):
        plan_sweep(BuildSource(function=shift), DATA, make_spec({**PLAIN, **change}))
    (record,) = caplog.records
    assert all(word in record.getMessage() for word in words)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"steps": 500},
        {"executor": "ray", "address": "ray://head:10001", "max_actors": 4},
        {"space": {"steps": [20, 40], "schedule": ["constant"]}},
    ],
)
def test_what_has_an_effect_or_is_a_default_is_not_spoken_of(
    change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    spec = make_spec({**PLAIN, **change})
    plan_sweep(BuildSource(function=shift), DATA, make_spec(spec.to_dict()))
    assert not caplog.records


@pytest.mark.parametrize(
    ("change", "key", "message"),
    [
        ({"checkpoint_dir": "states"}, "checkpoint_dir", "write shards too, or delete it"),
        ({"shards": 2, "biased_minibatches": True}, "biased_minibatches", "write batch_size too"),
    ],
)
def test_keys_of_shards_need_what_they_are_about(change: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        plan_sweep(BuildSource(function=shift), DATA, make_spec({**PLAIN, **change}))
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"y": np.zeros(0)}, ["obs", "y (0,)"]),
        ({"y": np.zeros(0), "scale": np.array(2.0)}, ["obs", "y (0,), scale ()"]),
        ({"y": np.zeros((0, 3)), "x": np.zeros((0, 2))}, ["y (0, 3), x (0, 2)"]),
    ],
)
@pytest.mark.parametrize("how", ["fit", "sweep"])
def test_data_without_rows_are_refused_with_the_columns_lengths(
    data: dict[str, Any], words: list[str], how: str, tmp_path: Path
) -> None:
    experiment = Experiment(shift, name="empty", data=data)
    options = {"executor": "inline", "output_dir": tmp_path / "out"} if how == "sweep" else {}
    begin: Any = getattr(experiment, how)
    with pytest.raises(SpecError, match="so the fit would be of the prior") as caught:
        begin(*([{"seed": [0]}] if how == "sweep" else []), steps=20, **options)
    assert caught.value.key == "data"
    assert all(word in caught.value.message for word in words)
    assert not (tmp_path / "out").exists()


def test_data_without_rows_cannot_be_cut_into_shards() -> None:
    spec = make_spec({**PLAIN, "shards": 1})
    with pytest.raises(SpecError) as caught:
        plan_sweep(BuildSource(function=shift), {"y": np.zeros(0)}, spec)
    assert caught.value.key in ("data", "shards")


@pytest.mark.parametrize("data", [None, {}])
def test_a_model_without_data_is_its_prior(data: Any) -> None:
    fit = Experiment(prior, name="prior", data=data).fit(steps=20, compile="never", samples=64)
    assert fit.status == "finished"
    assert torch.isfinite(fit.sample(10)["mu"]).all()
