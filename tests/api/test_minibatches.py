"""Batches of rows as a spec asks for them: a small sweep, and what is refused before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Distribution, Normal

from vi_dist import Experiment, Model, SpecError, random_variable
from vi_dist.api.planning import plan_sweep
from vi_dist.cluster.build_source import BuildSource
from vi_dist.sweep.spec import make_spec

SPACE = {"guide": ["mean_field"], "learning_rate": [0.05], "seed": [0]}
Y = np.random.default_rng(0).normal(0.4, 1.0, 200)


def build(data: dict[str, torch.Tensor]) -> Model:
    y = data["y"]

    @random_variable
    def mu() -> Distribution:
        return Normal(torch.tensor(0.0), 3.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(mu(), 1.0).expand(y.shape)

    return Model([mu()], {obs(): y})


def build_centred(data: dict[str, torch.Tensor]) -> Model:
    return build({"y": data["y"] - data["y"].mean() + 1})


def build_branching(data: dict[str, torch.Tensor]) -> Model:
    return build({"y": data["y"] if float(data["y"].sum()) > 0 else -data["y"]})


def plan(build: Callable[..., Model] = build, **values: Any) -> Any:
    given = {"name": "batches", "space": SPACE, "shards": 2, "batch_size": 10} | values
    spec = make_spec({name: value for name, value in given.items() if value is not None})
    return plan_sweep(BuildSource(function=build), {"y": Y}, spec)


def test_a_sweep_with_batches(tmp_path: Path, with_store: Callable[[Path], Path]) -> None:
    result = Experiment(build, name="batches", data={"y": Y}).sweep(
        {**SPACE, "seed": [0, 1]},
        shards=2,
        batch_size=50,
        steps=300,
        schedule="cosine",
        executor="inline",
        compile="never",
        output_dir=with_store(tmp_path),
    )
    for key in result.dataframe()["key"]:
        draws = result.get(key).sample(4000, seed=1)["mu"]
        assert float(draws.mean()) == pytest.approx(Y.sum() / (200 + 1 / 9), abs=0.5 * 200**-0.5)
        assert float(draws.std()) == pytest.approx((200 + 1 / 9) ** -0.5, rel=0.1)
    assert result.spec.batch_size == 50


def test_keys_know_the_batch_size() -> None:
    assert len({tuple(plan(batch_size=size).keys) for size in (None, 10, 20)}) == 3


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"shards": None}, "write shards too"),
        ({"batch_size": 0}, "at least 1"),
        ({"group_by": "y"}, "group_by and batch_size do not go together"),
        ({"space": {**SPACE, "divergence": ["kl_forward"]}}, "kl_forward is not linear"),
        ({"space": {**SPACE, "divergence": [{"amari": {"alpha": 0.0}}]}}, "amari is not linear"),
        ({"space": {**SPACE, "estimator": ["dreg"]}}, "dreg weights samples"),
        ({"space": {**SPACE, "estimator": [{"vr_iwae": {"order": 0.5}}]}}, "vr_iwae weights samples"),
        ({"space": {**SPACE, "estimator": ["iwae"]}}, "iwae weights samples"),
        ({"build": build_centred}, "computes something of all its rows"),
        ({"build": build_branching}, "build that can be traced with any rows, and this one cannot: "),
    ],
)
def test_what_batches_cannot_do_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        plan(**values)


@pytest.mark.parametrize(
    "space", [{"divergence": ["kl_forward"]}, {"estimator": ["iwae"]}], ids=["divergence", "estimator"]
)
def test_a_bias_can_be_insisted_on(space: dict[str, Any]) -> None:
    assert plan(space={**SPACE, **space}, biased_minibatches=True).setup.shards.batch_size == 10
