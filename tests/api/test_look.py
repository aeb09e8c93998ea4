"""What a sweep leaves for those who look at it: figures, the report, the note, and a champion that draws."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pytest
from matplotlib.figure import Figure
from mlflow.tracking import MlflowClient

import vi_dist
from vi_dist import SpecError, SweepResult
from vi_dist.report.links import run_urls


def test_figures_are_matplotlib_figures_of_the_best_or_the_chosen(result: SweepResult) -> None:
    curves = result.plot_curves()
    assert isinstance(curves, Figure)
    (legend,) = curves.legends
    assert {text.get_text() for text in legend.get_texts()} == {
        "full_rank · kl_reverse (2 seeds)",
        "mean_field · kl_reverse (2 seeds)",
    }
    titles = {axes.get_title("left").partition(":")[0] for axes in result.plot_hyperparameters().axes}
    assert {"guide", "seed"} <= titles
    panels = result.plot_marginals(["1", "2"]).axes
    assert [axes.get_title("left") for axes in panels if axes.get_visible()] == [
        "mu[0]",
        "mu[1]",
        "tau",
        "total",
    ]
    with pytest.raises(SpecError, match="'nobody' is no configuration"):
        result.plot_curves(["nobody"])


def test_the_sweeps_run_keeps_the_report_and_a_note_that_leads_to_the_runs(result: SweepResult) -> None:
    client, frame = MlflowClient(result.tracking_uri), result.dataframe()
    assert result.parent_run_id is not None
    assert "report.html" in {file.path for file in client.list_artifacts(result.parent_run_id)}
    assert result.verdict().sentence in (result.directory / "report.html").read_text()
    note = client.get_run(result.parent_run_id).data.tags["mlflow.note.content"]
    assert result.verdict().sentence in note
    best = frame.iloc[0]
    assert f"[{best['name']}](#/experiments/{result.experiment_id}/runs/{best['run_id']})" in note


def test_the_sweeps_run_keeps_the_winner_in_arvizs_form(result: SweepResult) -> None:
    client = MlflowClient(result.tracking_uri)
    assert result.parent_run_id is not None
    assert "winner.nc" in {file.path for file in client.list_artifacts(result.parent_run_id)}
    found: Any = az.from_netcdf(str(result.directory / "winner.nc"))
    draws = result.best().sample(500)
    np.testing.assert_array_equal(found.posterior["mu"].values[0], draws["mu"])
    assert found.posterior_predictive["obs"].shape == (1, 500, 6)
    assert found.posterior.attrs["key"] == result.dataframe()["key"][0]


def test_a_verdict_and_a_report_need_no_model(result: SweepResult) -> None:
    tables = SweepResult.load(result.directory)
    assert tables.verdict() == result.verdict()
    np.testing.assert_array_equal(
        tables.drawer(str(tables.dataframe()["key"][1]))["total"],
        result.get(str(tables.dataframe()["key"][1])).sample(4000)["total"],
    )


LOAD = """
import json, sys
import mlflow

mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/toy@champion")
print(json.dumps(model.predict(None, params={"num_samples": 5, "seed": 3}).to_dict("list")))
"""


def test_the_champion_draws_in_a_process_that_never_saw_the_model(
    result: SweepResult, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(vi_dist.__file__).parents[1])}
    command = [sys.executable, "-W", "ignore", "-c", LOAD, result.tracking_uri]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    draws = result.best().sample(5, seed=3)
    assert list(found) == ["mu[0]", "mu[1]", "tau", "total"]
    np.testing.assert_allclose(found["total"], draws["total"], rtol=1e-6)


def test_from_a_row_to_its_run_is_one_step(result: SweepResult) -> None:
    row = result.dataframe().iloc[0]
    urls = run_urls(result.directory, "http://127.0.0.1:5000/")
    assert (
        urls[row["key"]] == f"http://127.0.0.1:5000/#/experiments/{result.experiment_id}/runs/{row['run_id']}"
    )
    assert run_urls(result.directory) == {}, "a database has no pages"
