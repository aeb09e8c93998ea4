from __future__ import annotations

import base64
import json
import math
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from vi_dist.tracking.mirror import Mirror
from vi_dist.tracking.patience import Patience
from vi_dist.tracking.records import (
    MLFLOW_STATUS,
    Artifact,
    Metrics,
    Note,
    RunEnded,
    RunStarted,
    SweepEnded,
    SweepStarted,
    Tags,
)
from vi_dist.tracking.state import State
from vi_dist.tracking.store import Store


def test_a_sweep_lands_as_one_parent_and_a_child_per_configuration(mirror: Mirror, sweeps: Any) -> None:
    mirror.apply(sweeps.records(runs=3, points=20, experiment="demo"))
    stored = sweeps.stored(mirror.store.client, "demo")
    sweeps.check(stored, runs=3, points=20)
    parent, child = stored.parent(), stored.children()["k1"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.info.run_name == "mean_field-kl_reverse-lr0.01-s1"
    assert child.data.params == {"seed": "1"}
    assert parent.data.params == {"steps": "20"}
    assert child.data.tags["mlflow.user"] == parent.data.tags["mlflow.user"] == "ada"
    assert child.data.tags["vi.attempt"] == "1"
    assert child.data.tags["vi.reason"] == "all steps done"
    assert mirror.state.run_ids == {key: run.info.run_id for key, run in stored.children().items()}
    assert (mirror.state.refused, mirror.state.dropped, mirror.state.ended) == (0, 0, True)
    final = mirror.store.client.get_metric_history(child.info.run_id, "final/elbo")
    assert [(point.step, point.value) for point in final] == [(0, -1.0)]


def test_artifacts_lie_beside_the_database(mirror: Mirror, sweeps: Any, output_dir: Path) -> None:
    mirror.apply(sweeps.records(runs=1, points=2, experiment="a/b c"))
    table = output_dir / "leaderboard.parquet"
    pd.DataFrame({"rank": [1, 2], "elbo": [-1.0, -2.0]}).to_parquet(table)
    mirror.apply([Artifact(str(table), "tables", table=True), Artifact(str(output_dir / "nowhere"))])
    mirror.apply([Artifact(str(table), "tables", table=True)])
    run = sweeps.stored(mirror.store.client, "a/b c").parent()
    folder = output_dir / "mlartifacts" / "a_b_c" / run.info.run_id / "artifacts" / "tables"
    assert sorted(path.name for path in folder.iterdir()) == ["leaderboard.json", "leaderboard.parquet"]
    shown = {"columns": ["rank", "elbo"], "data": [[1, -1.0], [2, -2.0]]}
    assert json.loads((folder / "leaderboard.json").read_text()) == shown
    listed = json.loads(run.data.tags["mlflow.loggedArtifacts"])
    assert listed == [{"path": "tables/leaderboard.json", "type": "table"}]
    assert mirror.state.refused == 1
    assert "nowhere" in mirror.state.faults[0]


def test_applying_twice_in_a_fresh_process_stores_once(store: Store, sweeps: Any) -> None:
    records = sweeps.records(runs=3, points=30, experiment="demo")
    Mirror(store, State()).apply(records[:7])
    Mirror(store, State()).apply(records[:-3])
    mirror = Mirror(store, State())
    mirror.apply(records)
    sweeps.check(sweeps.stored(store.client, "demo"), runs=3, points=30)
    assert mirror.state.refused == 0


def test_tags_reach_a_run_that_has_ended(mirror: Mirror, sweeps: Any) -> None:
    mirror.apply(
        [SweepStarted("sweep-1", "demo", "demo"), RunStarted("k", "name"), RunEnded("k", "finished", "done")]
    )
    mirror.apply([Tags("k", {"vi.verdict": "trustworthy"}), Tags(None, {"vi.verdict": "trustworthy"})])
    mirror.apply([SweepEnded("finished", "done")])
    stored = sweeps.stored(mirror.store.client, "demo")
    for run in (stored.children()["k"], stored.parent()):
        assert run.data.tags["vi.verdict"] == "trustworthy"
        assert run.info.status == "FINISHED"


@pytest.mark.parametrize("status", list(MLFLOW_STATUS))
def test_statuses_and_reasons(mirror: Mirror, sweeps: Any, status: Any) -> None:
    mirror.apply(
        [
            SweepStarted("sweep-1", "demo", "demo"),
            RunStarted("k", "name"),
            RunEnded("k", status, "because", tags={"vi.node": "n1"}),
            RunStarted("open", "name 2"),
            SweepEnded(status, "the end"),
        ]
    )
    stored = sweeps.stored(mirror.store.client, "demo")
    runs = {**stored.children(), "sweep": stored.parent()}
    assert {key: run.info.status for key, run in runs.items()} == dict.fromkeys(runs, MLFLOW_STATUS[status])
    reasons = {key: run.data.tags["vi.reason"] for key, run in runs.items()}
    assert reasons == {"k": "because", "open": "the end", "sweep": "the end"}
    assert runs["k"].data.tags["vi.status"] == status
    assert runs["k"].data.tags["vi.node"] == "n1"
    assert all(run.info.end_time for run in runs.values())


def test_a_resumed_sweep_goes_on_in_its_own_runs(store: Store, sweeps: Any) -> None:
    begin = [SweepStarted("sweep-1", "demo", "demo"), RunStarted("k", "name"), RunStarted("done", "other")]
    Mirror(store, State()).apply(
        [*begin, RunEnded("done", "finished", "done"), SweepEnded("interrupted", "killed")]
    )
    before = sweeps.stored(store.client, "demo").children()
    mirror = Mirror(store, State())
    mirror.apply([begin[0], RunStarted("k", "name", attempt=2), Metrics("k", sweeps.curve(0, range(1, 4)))])
    stored = sweeps.stored(store.client, "demo")
    running = {key: run.info.status for key, run in stored.children().items()}
    assert running == {"k": "RUNNING", "done": "FINISHED"}
    assert stored.parent().info.status == "RUNNING"
    mirror.apply([RunEnded("k", "finished", "done"), SweepEnded("finished", "done")])
    after = stored.children()
    assert {key: run.info.run_id for key, run in after.items()} == {
        key: run.info.run_id for key, run in before.items()
    }
    assert after["k"].info.status == "FINISHED"
    assert after["k"].data.tags["vi.attempt"] == "2"


def test_values_that_are_not_finite_are_dropped_and_counted(mirror: Mirror, sweeps: Any) -> None:
    values = [1.0, math.nan, math.inf, 2.0, -math.inf]
    points = [("train/elbo", step, value, 1000 + step) for step, value in enumerate(values)]
    ended = RunEnded(
        "k", "diverged", "the loss is not finite", {"final/elbo": math.nan, "final/seconds": 1.0}
    )
    mirror.apply(
        [SweepStarted("sweep-1", "demo", "demo"), RunStarted("k", "name"), Metrics("k", points), ended]
    )
    mirror.apply([Metrics(None, [("best/elbo", 1, -3.0, 1), ("best/elbo", 2, math.inf, 2)])])
    mirror.apply([SweepEnded("finished", "done")])
    stored = sweeps.stored(mirror.store.client, "demo")
    run = stored.children()["k"]
    assert stored.points(run.info.run_id, "train/elbo") == Counter([(0, 1.0, 1000), (3, 2.0, 1003)])
    assert "final/elbo" not in run.data.metrics
    assert stored.parent().data.metrics == {"best/elbo": -3.0}
    assert mirror.state.dropped == 5
    assert stored.parent().data.tags["vi.dropped"] == "5"


def test_a_long_param_is_cut_and_kept_whole_beside_the_run(mirror: Mirror, sweeps: Any) -> None:
    long = "αβγ" * 3000
    many = {f"p{n}": "x" * 5000 for n in range(250)}
    mirror.apply([SweepStarted("sweep-1", "demo", "demo", {"spec[0]": long, **many}), SweepEnded("finished")])
    run = sweeps.stored(mirror.store.client, "demo").parent()
    assert mirror.state.faults == []
    assert len(run.data.params["spec_0_"]) == 6000
    assert run.data.params["spec_0_"].startswith("αβγ")
    assert run.data.params["spec_0_"].endswith("(9000 characters, whole in params/spec_0_.txt)")
    assert mirror.store.client.download_artifacts(run.info.run_id, "params/spec_0_.txt")
    whole = Path(mirror.store.client.download_artifacts(run.info.run_id, "params/spec_0_.txt")).read_text()
    assert whole == long
    assert len(run.data.params) == 251


def test_more_points_than_a_request_holds(mirror: Mirror, sweeps: Any) -> None:
    mirror.apply([SweepStarted("sweep-1", "demo", "demo"), RunStarted("k", "n", {"a": 1}, {"t": "x" * 9000})])
    mirror.apply([RunStarted("k", "n", {"a": 1}), Metrics("k", sweeps.curve(1, range(1, 2502)))])
    stored = sweeps.stored(mirror.store.client, "demo")
    run = stored.children()["k"]
    assert len(stored.points(run.info.run_id, "train/elbo")) == 2501
    assert len(run.data.tags["t"]) == 8000
    assert mirror.state.refused == 0


def test_what_mlflow_refuses_takes_nothing_else_with_it(mirror: Mirror, sweeps: Any) -> None:
    mirror.apply(
        [
            SweepStarted("sweep-1", "demo", "demo"),
            Metrics("unknown", sweeps.curve(1, range(1, 3))),
            RunStarted("k", "name", {"a": 1, "b": 2}),
        ]
    )
    mirror.apply([RunStarted("k", "name", {"a": 3, "c": 4}), Metrics("k", sweeps.curve(1, range(1, 6)))])
    run = sweeps.stored(mirror.store.client, "demo").children()["k"]
    assert run.data.params == {"a": "1", "b": "2", "c": "4"}
    assert len(sweeps.stored(mirror.store.client, "demo").points(run.info.run_id, "train/elbo")) == 5
    assert mirror.state.refused == 2
    assert "unknown" in mirror.state.faults[0]


class Forgetful(MlflowClient):
    """A client whose connection breaks each time right after a run was made."""

    def create_run(self, *arguments: Any, **named: Any) -> Any:
        super().create_run(*arguments, **named)
        raise MlflowException("API request failed: connection reset")


def test_a_lost_answer_doubles_no_run(store: Store, sweeps: Any) -> None:
    forgetful = Store(store.tracking_uri, Forgetful(store.tracking_uri), store.patience)
    Mirror(forgetful, State()).apply(sweeps.records(runs=2, points=4, experiment="demo"))
    sweeps.check(sweeps.stored(store.client, "demo"), runs=2, points=4)


def test_a_run_that_was_doubled_all_the_same_is_deleted(mirror: Mirror, sweeps: Any) -> None:
    records = sweeps.records(runs=2, points=4, experiment="demo")
    mirror.apply(records[:-1])
    run = sweeps.stored(mirror.store.client, "demo").children()["k1"]
    mirror.store.client.create_run(run.info.experiment_id, tags=run.data.tags, run_name=run.info.run_name)
    mirror.apply(records[-1:])
    sweeps.check(sweeps.stored(mirror.store.client, "demo"), runs=2, points=4)


def test_the_note_leads_to_the_runs(mirror: Mirror, sweeps: Any) -> None:
    mirror.apply(sweeps.records(runs=1, points=2, experiment="demo"))
    mirror.apply([Note("| name |\n|---|\n| [best](run:k0) |")])
    stored = sweeps.stored(mirror.store.client, "demo")
    address = f"#/experiments/{stored.experiment_id}/runs/{stored.children()['k0'].info.run_id}"
    assert stored.parent().data.tags["mlflow.note.content"] == f"| name |\n|---|\n| [best]({address}) |"


def views(client: MlflowClient, experiment_id: str) -> list[dict[str, Any]]:
    """The saved views, unpacked as MLflow's front end does."""
    unpacked = []
    for tag, value in client.get_experiment(experiment_id).tags.items():
        if tag.startswith("mlflow.sharedViewState."):
            view = json.loads(value)
            state = zlib.decompress(base64.b64decode(view["state"].removeprefix("deflate;")))
            unpacked.append({**view, "state": json.loads(state)})
    return unpacked


def test_saved_views_show_what_varied(mirror: Mirror, sweeps: Any) -> None:
    mirror.apply(sweeps.records(runs=2, points=2, experiment="demo"))
    Mirror(mirror.store, State()).apply(sweeps.records(runs=2, points=2, experiment="demo", sweep="sweep-2"))
    saved = views(mirror.store.client, mirror.state.experiment_id)
    assert len({view["name"] for view in saved}) == 6
    latest = next(view for view in saved if view["name"] == "Sweep: demo sweep-2")
    (parallel,) = (chart for chart in latest["state"]["compareRunCharts"] if chart["type"] == "PARALLEL")
    assert parallel["selectedParams"] == ["seed"]
    assert "sweep-2" in latest["state"]["searchFilter"]
    found = mirror.store.client.search_runs([mirror.state.experiment_id], latest["state"]["searchFilter"])
    assert {run.data.tags["vi.configuration"] for run in found} == {"k0", "k1"}


def lines(view: dict[str, Any]) -> list[dict[str, Any]]:
    """A view's charts of curves."""
    return [chart for chart in view["state"]["compareRunCharts"] if chart["type"] == "LINE"]


def test_saved_views_keep_out_what_is_far_off_and_say_so(mirror: Mirror, sweeps: Any) -> None:
    *records, end = sweeps.records(runs=3, points=2, experiment="demo")
    mirror.apply(records)
    client, experiment = mirror.store.client, mirror.state.experiment_id
    for view in views(client, experiment):
        assert {line["ignoreOutliers"] for line in lines(view)} == {True}, "no curve has an end yet"
    ends = {"k0": -4.0, "k1": -5.0, "k2": -1e6}
    mirror.apply([*(Metrics(key, [("train/elbo", 9, value, 1)]) for key, value in ends.items()), end])
    found = {}
    for view in views(client, experiment):
        for line in lines(view):
            assert line["range"] == {"yMin": -8.0, "yMax": pytest.approx(-3.6)}
            assert line["ignoreOutliers"] is False
        runs = client.search_runs([experiment], view["state"]["searchFilter"])
        found[view["name"].partition(":")[0]] = {run.data.tags["vi.configuration"] for run in runs}
    near = {"Sweep", "By guide family", "By divergence"}
    assert found == {f"{name} without 1 far off": {"k0", "k1"} for name in near} | {"Whole sweep": set(ends)}


class WithoutTags(MlflowClient):
    """A client of a store that has no room for views."""

    def set_experiment_tag(self, *arguments: Any, **named: Any) -> None:
        raise MlflowException("no experiment tags here")


def test_saved_views_never_fail_the_sweep(store: Store, sweeps: Any) -> None:
    plain = Store(store.tracking_uri, WithoutTags(store.tracking_uri), store.patience)
    mirror = Mirror(plain, State())
    mirror.apply(sweeps.records(runs=1, points=2, experiment="demo"))
    sweeps.check(sweeps.stored(store.client, "demo"), runs=1, points=2)
    assert (mirror.state.refused, mirror.state.views) == (0, False)


class Poisoned(MlflowClient):
    """A client of a server that breaks over one record while it answers all others."""

    def log_artifact(self, *arguments: Any, **named: Any) -> None:
        raise MlflowException("API request failed with error code 500 != 200")


def test_one_poisoned_record_does_not_stop_the_others(store: Store, sweeps: Any, output_dir: Path) -> None:
    client = Poisoned(store.tracking_uri)
    patience = Patience(lambda: client.search_experiments(max_results=1), longest_wait=0.01)
    mirror = Mirror(Store(store.tracking_uri, client, patience), State())
    first, *rest = sweeps.records(runs=1, points=2, experiment="demo")
    mirror.apply([first, Artifact(str(output_dir / "mlflow.db")), *rest])
    sweeps.check(sweeps.stored(store.client, "demo"), runs=1, points=2)
    assert mirror.state.refused == 1


def test_a_deleted_experiment_is_restored(mirror: Mirror, sweeps: Any) -> None:
    mirror.apply(sweeps.records(runs=1, points=2, experiment="demo"))
    mirror.store.client.delete_experiment(mirror.state.experiment_id)
    again = Mirror(mirror.store, State())
    again.apply(sweeps.records(runs=1, points=2, experiment="demo", sweep="sweep-2"))
    assert again.state.refused == 0
    sweeps.check(sweeps.stored(mirror.store.client, "demo", "sweep-2"), runs=1, points=2)
