"""A sweep whose later configurations are chosen by the results of earlier ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from vi_dist import Experiment, SweepResult


@pytest.fixture(scope="module")
def searched(
    experiment: Experiment, tmp_path_factory: pytest.TempPathFactory, with_store: Callable[[Path], Path]
) -> SweepResult:
    return experiment.sweep(
        {"learning_rate": {"low": 0.001, "high": 0.5, "log": True}},
        search="tpe",
        configurations=10,
        generation=4,
        steps=40,
        num_samples=4,
        executor="inline",
        compile="never",
        evaluation={"samples": 256},
        halving={"eta": 2, "min_steps": 10},
        output_dir=with_store(tmp_path_factory.mktemp("searched")),
    )


def test_every_generation_is_in_the_tables(searched: SweepResult) -> None:
    frame = searched.dataframe()
    assert len(frame) == 10 and frame["name"].is_unique
    plan = json.loads((searched.directory / "plan.json").read_text())
    assert set(plan["configurations"]) == set(frame["key"])
    assert sorted(place for pack in plan["packs"] for place in pack["configurations"]) == list(range(10))
    assert [pack["index"] for pack in plan["packs"]] == sorted({pack["index"] for pack in plan["packs"]})
    rungs = searched.rungs()
    assert rungs["generation"].unique().tolist() == [1, 2, 3]
    assert rungs.groupby(["generation", "rung"]).size().tolist() == [4, 2, 4, 2, 2, 1]
    assert searched.best().losses.shape == (40,)


def test_every_generation_is_in_mlflow(searched: SweepResult) -> None:
    client = MlflowClient(searched.tracking_uri)
    assert searched.experiment_id is not None
    runs = client.search_runs([searched.experiment_id], max_results=100)
    names = {run.info.run_name for run in runs}
    assert names >= set(searched.dataframe()["name"])
    assert len(runs) == 11
