"""A sweep of more configurations than anybody looks at one by one keeps less of each in MLflow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from vi_dist import Experiment
from vi_dist.cluster.run_params import COMPARED

STEPS = 40


def test_runs_of_many_have_what_tells_them_apart_and_fewer_points(
    experiment: Experiment,
    tmp_path: Path,
    with_store: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vi_dist.cluster.recorder.MANY_RUNS", 2)
    monkeypatch.setattr("vi_dist.tracking.budget.MANY_RUNS", 2)
    result = experiment.sweep(
        {"guide": ["mean_field", {"low_rank": {"rank": [1, 2]}}], "averaging": [0.1, 0.2]},
        steps=STEPS,
        executor="inline",
        compile="never",
        evaluation={"samples": 64},
        output_dir=with_store(tmp_path),
    )
    client = MlflowClient(result.tracking_uri)
    curves = result.curves()
    for row in result.dataframe().itertuples():
        run = client.get_run(row.run_id)
        own = {"averaging"} | ({"guide.rank"} if row.guide.startswith("low_rank") else set())
        assert COMPARED | own <= set(run.data.params)
        assert not {"optim.beta1", "dtype", "initialisation"} & set(run.data.params), "the same in all runs"
        assert "final/skipped_steps" not in run.data.metrics
        assert "progress/grad_evals" not in run.data.metrics
        assert run.data.metrics["final/elbo"] == pytest.approx(row.elbo)
        points = {point.step: point.value for point in client.get_metric_history(row.run_id, "train/elbo")}
        assert len(points) == 13 and max(points) == STEPS
        whole = curves[(curves["configuration"] == row.key) & (curves["metric"] == "train/elbo")]
        assert len(whole) == STEPS
        assert points[STEPS] == pytest.approx(whole["value"].iloc[-1])
    parent = client.get_run(result.parent_run_id)
    assert parent.data.params["dtype"] == "float32"
