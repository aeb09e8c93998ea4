"""The contract of a sweep's result, and what stands in its directory and in MLflow afterwards."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from vi_dist import Experiment, Model, SpecError, SweepResult
from vi_dist.api.planning import plan_sweep
from vi_dist.api.resuming import first_spec
from vi_dist.api.sweeping import started
from vi_dist.cluster.build_source import BuildSource
from vi_dist.evaluation.verdict import NOT_JUDGED, TRUST, TRUSTWORTHY
from vi_dist.report.sweep_directory import read_summary
from vi_dist.sweep.configuration import Choice
from vi_dist.sweep.spec import load_spec, make_spec

COLUMNS = """rank key name guide divergence estimator optimizer learning_rate num_samples seed steps status reason
converged elbo elbo_se iw_elbo khat seconds run_id ess draws""".split()  # noqa: SIM905 - as the contract writes them


@pytest.fixture(scope="module")
def frame(result: SweepResult) -> pd.DataFrame:
    return result.dataframe()


@pytest.fixture(scope="module")
def runs(result: SweepResult) -> list[Run]:
    """Every run of the sweep's experiment."""
    assert result.experiment_id is not None
    return list(MlflowClient(result.tracking_uri).search_runs([result.experiment_id], max_results=100))


def test_the_columns_are_those_of_the_contract_in_rank_order(frame: pd.DataFrame) -> None:
    assert list(frame.columns) == COLUMNS
    assert frame["rank"].tolist() == list(range(1, 13))
    assert frame["key"].str.fullmatch("[0-9a-f]{12}").all() and frame["key"].is_unique
    assert frame["name"].is_unique
    assert frame["reason"].str.endswith(".").all()
    assert (frame["seconds"] >= 0).all()


def test_finished_ones_with_an_elbo_come_first_then_points_then_what_diverged(frame: pd.DataFrame) -> None:
    assert frame["status"].tolist() == ["finished"] * 6 + ["diverged"] * 6
    gaussians, points = frame.iloc[:4], frame.iloc[4:6]
    assert gaussians["elbo"].is_monotonic_decreasing and np.isfinite(gaussians["elbo"]).all()
    assert (points["guide"] == "delta").all() and points["elbo"].isna().all()
    assert (gaussians["elbo"] <= gaussians["iw_elbo"]).all()
    assert (gaussians["elbo_se"] > 0).all()
    assert (frame.loc[frame["status"] == "finished", "steps"] == 60).all()
    assert (frame.loc[frame["status"] == "diverged", "steps"] < 60).all()


def test_the_curves_are_long_and_whole(result: SweepResult, frame: pd.DataFrame) -> None:
    curves = result.curves()
    assert list(curves.columns) == ["configuration", "step", "metric", "value"]
    assert set(curves["metric"]) == {"train/loss", "train/elbo", "train/grad_norm"}
    lengths = (
        curves[curves["metric"] == "train/loss"].groupby("configuration")["step"].agg(["min", "max", "count"])
    )
    steps = frame.set_index("key")["steps"]
    assert (lengths["min"] == 1).all()
    assert lengths["max"].to_dict() == lengths["count"].to_dict() == steps.to_dict()


def test_a_fit_can_be_had_by_its_key(result: SweepResult, frame: pd.DataFrame) -> None:
    best = result.best()
    assert best.key == frame["key"][0]
    again = result.get(best.key)
    assert again == best and again.losses.equal(best.losses)
    assert (best.status, best.steps, tuple(best.losses.shape)) == ("finished", 60, (60,))
    assert str(Choice.from_data(best.configuration["guide"])) == frame["guide"][0]
    assert best.elbo == frame["elbo"][0]
    with pytest.raises(KeyError, match="not a configuration"):
        result.get("nonsense")


def test_a_diverged_fit_says_why_it_has_no_draws(result: SweepResult, frame: pd.DataFrame) -> None:
    fit = result.get(frame["key"].iloc[-1])
    assert fit.status == "diverged" and math.isnan(fit.elbo)
    assert "Diverged at step" in fit.reason


def test_the_same_configuration_has_the_same_key_and_almost_the_same_numbers_alone(
    result: SweepResult, experiment: Experiment
) -> None:
    best = result.best()
    chosen = {name: best.configuration[name] for name in ("guide", "divergence", "seed", "learning_rate")}
    alone = experiment.fit(**chosen, steps=60, num_samples=4, samples=4096, compile="never")
    assert (alone.key, alone.name) == (best.key, best.name)
    # A pack of one has another width, hence another order of sums.
    np.testing.assert_allclose(alone.losses, best.losses, rtol=1e-3)
    assert alone.elbo == pytest.approx(best.elbo, abs=1e-3)


def test_the_directory_holds_what_the_contract_names(result: SweepResult, frame: pd.DataFrame) -> None:
    assert (result.output_dir / "mlflow.db").is_file()
    assert result.directory.parent == result.output_dir
    spec = load_spec(result.directory / "spec.resolved.yaml", needs_model=False)
    assert (spec.name, spec.steps) == ("toy", 60)
    plan = json.loads((result.directory / "plan.json").read_text())
    assert set(plan["configurations"]) == set(frame["key"])
    assert sum(len(pack["configurations"]) for pack in plan["packs"]) == 12
    for key in frame.loc[frame["status"] == "finished", "key"]:
        assert (result.directory / "guides" / f"{key}.safetensors").is_file()
    assert (result.directory / "spool").is_dir()
    assert not (result.directory / "journal").exists(), "what a sweep that is over goes on from"
    assert not list((result.directory / "packs").iterdir()), "its curves are in one table"


def test_a_result_is_found_again_in_its_directory(
    result: SweepResult, toy_build: Callable[..., Model]
) -> None:
    tables = SweepResult.load(result.directory)
    pd.testing.assert_frame_equal(tables.dataframe(), result.dataframe())
    with pytest.raises(ValueError, match="pass build"):
        tables.best().sample(3)
    data = {"y": [0.3, 1.7, 2.2, 0.9, 1.4, 2.8]}
    whole = SweepResult.load(result.output_dir, toy_build, data)  # the newest sweep in there
    assert whole.best().sample(3)["total"].equal(result.best().sample(3)["total"])
    with pytest.raises(SpecError, match="no sweep here"):
        SweepResult.load(result.directory / "guides")


def test_the_wall_time_is_accounted_for(result: SweepResult) -> None:
    timings = dict(result.timings)
    wall = timings.pop("wall")
    assert set(timings) == {"start_up", "stepping", "evaluation", "tracking", "other"}
    assert sum(timings.values()) == pytest.approx(wall, rel=0.02)
    assert all(value > 0 for value in timings.values())
    assert not result.interrupted


def test_mlflow_has_a_parent_and_a_child_for_every_configuration(
    result: SweepResult, frame: pd.DataFrame, runs: list[Run]
) -> None:
    assert result.tracking_error is None
    children = {run.info.run_id: run for run in runs if run.data.tags.get("mlflow.parentRunId")}
    (parent,) = [run for run in runs if run.info.run_id not in children]
    assert parent.info.run_id == result.parent_run_id
    assert parent.info.status == "FINISHED"
    assert set(frame["run_id"]) == set(children)
    for row in frame.itertuples():
        run = children[row.run_id]
        assert run.info.run_name == row.name
        assert run.info.status == {"finished": "FINISHED", "diverged": "FAILED"}[row.status]
        assert run.data.tags["vi.reason"] == row.reason
        assert (run.data.tags["vi.step"], run.data.tags["vi.step.reason"]) == ("flat", "compile: never")
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params["guide.family"] == row.guide.split("(")[0]
        assert float(run.data.params["optim.lr"]) == row.learning_rate
        if math.isfinite(row.elbo):
            assert run.data.metrics["final/elbo"] == pytest.approx(row.elbo)
        else:
            assert "final/elbo" not in run.data.metrics


def test_mlflow_has_the_curves_the_best_so_far_and_the_shares_of_the_wall_time(
    result: SweepResult, frame: pd.DataFrame
) -> None:
    client = MlflowClient(result.tracking_uri)
    curve = client.get_metric_history(frame["run_id"][0], "train/loss")
    losses = result.best().losses
    assert [point.step for point in curve] == list(range(1, 61))
    assert [point.value for point in curve] == pytest.approx(losses.tolist())
    assert [p.step for p in client.get_metric_history(frame["run_id"][0], "final/elbo")] == [0]
    assert result.parent_run_id is not None
    parent = client.get_run(result.parent_run_id).data
    assert parent.metrics["best/elbo"] == pytest.approx(frame["elbo"][0])
    assert {f"share/{part}" for part in ("start_up", "stepping", "evaluation", "tracking")} <= set(
        parent.metrics
    )
    files = {file.path for file in client.list_artifacts(result.parent_run_id)}
    assert {"leaderboard.parquet", "curves.parquet"} <= files
    assert frame["name"][0] in parent.tags["mlflow.note.content"]


def test_the_winners_are_models_that_draw(result: SweepResult, frame: pd.DataFrame) -> None:
    client = MlflowClient(result.tracking_uri)
    assert result.experiment_id is not None
    models = client.search_logged_models([result.experiment_id])
    assert {model.source_run_id for model in models} == set(frame["run_id"][:3])
    champion = client.get_model_version_by_alias("toy", "champion")
    assert champion.run_id == frame["run_id"][0]


def test_the_verdict_judges_the_winner_by_its_own_numbers(result: SweepResult, frame: pd.DataFrame) -> None:
    found = result.verdict()
    assert found.word in TRUST and found.word != NOT_JUDGED
    assert (found.word == TRUSTWORTHY) <= (frame["converged"][0] == "yes")
    assert f"{frame.iloc[0]['elbo']:.3f}" in found.reasons[1]
    assert found.sentence.endswith(".")


def test_the_verdict_is_on_the_winners_run_on_the_sweeps_and_on_disk(
    result: SweepResult, frame: pd.DataFrame
) -> None:
    client, found = MlflowClient(result.tracking_uri), result.verdict()
    assert result.parent_run_id is not None
    for run_id in (frame["run_id"][0], result.parent_run_id):
        tags = client.get_run(run_id).data.tags
        assert tags["vi.verdict"] == found.word
        assert tags["vi.verdict.reason"] == found.sentence
    assert "vi.verdict" not in client.get_run(frame["run_id"][1]).data.tags
    assert read_summary(result.directory).verdict == found.sentence


def test_a_password_in_the_tracking_uri_is_told_to_nobody(toy_build: Callable[..., Model]) -> None:
    spec = make_spec(
        {"name": "toy", "space": {"seed": [0]}, "tracking_uri": "http://ada:secret@tracking:5000"}
    )
    planned = plan_sweep(BuildSource(function=toy_build), {"y": [1.0, 2.0]}, spec)
    assert started(planned, spec, "toy 1").params["tracking_uri"] == "http://ada:***@tracking:5000"


def test_a_sweep_that_goes_on_elsewhere_is_recorded_where_it_began(
    toy_build: Callable[..., Model], tmp_path: Path
) -> None:
    """MLflow refuses another value of a parameter, and all that comes with it."""
    began = make_spec({"name": "toy", "space": {"seed": [0]}, "executor": "ray"})
    (tmp_path / "spec.resolved.yaml").write_text(began.to_yaml())
    elsewhere = began.model_copy(update={"executor": "inline"})
    planned = plan_sweep(BuildSource(function=toy_build), {"y": [1.0, 2.0]}, elsewhere)
    again = started(planned, first_spec(tmp_path, planned.spec), "toy 1").params
    assert again == started(planned, began, "toy 1").params and again["executor"] == "ray"
