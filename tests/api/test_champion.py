"""Sweeps and the alias champion: who takes it, who leaves it, and what is said of that; on a real store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.tracking import MlflowClient
from torch import Tensor
from torch.distributions import Distribution, Normal

from vi_dist import Experiment, Model, random_variable
from vi_dist.api.finishing import Origin
from vi_dist.api.planning import plan_sweep
from vi_dist.api.sweeping import origin
from vi_dist.cluster.build_source import BuildSource
from vi_dist.sweep.spec import make_spec

OPTIONS: dict[str, Any] = {"executor": "inline", "compile": "never", "steps": 400}
SPACE: dict[str, Any] = {"guide": ["mean_field"], "learning_rate": [0.05], "seed": [0]}


def build(data: dict[str, Tensor]) -> Model:
    """A Gaussian posterior, which a mean-field guide can be."""

    @random_variable
    def mu() -> Distribution:
        return Normal(torch.zeros(2), 1.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(mu().expand(data["y"].shape), 1.0)

    return Model([mu()], {obs(): data["y"]})


def other(data: dict[str, Tensor]) -> Model:
    """Another function of the same file is another model."""
    return build(data)


def test_a_throw_away_sweep_leaves_the_alias_unless_somebody_asks(
    tmp_path: Path, with_store: Callable[[Path], Path]
) -> None:
    output = with_store(tmp_path / "out")
    experiment = Experiment(build, name="shift", data={"y": np.array([[1.0, 2.0]])})

    def champion(**changes: Any) -> tuple[Any, int]:
        found = experiment.sweep(SPACE, output_dir=output, **{**OPTIONS, **changes})
        client = MlflowClient(found.tracking_uri)
        return found, int(client.get_model_version_by_alias("shift", "champion").version)

    good, version = champion()
    assert (good.verdict().word, version) == ("trustworthy", 1)
    assert good.champion == "shift has version 1 as its champion"
    poor, version = champion(evaluation={"samples": 2})
    assert (poor.verdict().word, version) == ("not judged", 1)
    assert "keeps version 1 as its champion: version 2 is registered without the alias" in poor.champion
    assert (
        "its verdict is 'not judged' and the champion's 'trustworthy'; --champion moves it" in poor.champion
    )
    asked, version = champion(evaluation={"samples": 2}, champion=True)
    assert version == 3 and asked.champion == "shift has version 3 as its champion"
    for result, number in ((good, "1"), (poor, "2")):
        described = MlflowClient(result.tracking_uri).get_model_version("shift", number).description
        assert result.verdict().word in described
        assert f"ELBO {result.dataframe()['elbo'][0]:.3f}" in described


def test_model_and_data_are_told_apart_by_their_content() -> None:
    def of(model: Any = build, rows: int = 4, **keys: Any) -> Origin:
        data = {"y": np.arange(2.0 * rows).reshape(rows, 2)}
        return origin(plan_sweep(BuildSource(function=model), data, make_spec({**spec, **keys})), False)

    spec = {"name": "shift", "space": SPACE}
    first = of()
    assert of(steps=30, space={"seed": [1]}) == first, "what is fitted how makes no other model"
    assert of(rows=5).model == first.model and of(rows=5).data != first.data
    assert of(model=other).data == first.data and of(model=other).model != first.model
    held_out = of(holdout=0.25)
    assert held_out.data not in (first.data, of(holdout=0.5).data)
    assert of(holdout=0.25, seed=1).data != held_out.data, "other rows train"
