"""A sweep with rungs, from its spec to its tables, in MLflow and on the command line."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from vi_dist import Experiment, SpecError, SweepResult
from vi_dist.report.leaderboard import leaderboard
from vi_dist.report.rungs import halved, lines, rung_table, saved
from vi_dist.report.sweep_directory import JOURNAL, read_rungs

COMMON = {"generation": 1, "rung": 1, "steps": 10}
SPACE = {"learning_rate": [0.001, 0.01, 0.03, 0.1, 0.2, 1e30], "seed": [0, 1]}


@pytest.fixture(scope="module")
def halved_result(
    experiment: Experiment, tmp_path_factory: pytest.TempPathFactory, with_store: Callable[[Path], Path]
) -> SweepResult:
    return experiment.sweep(
        SPACE,
        steps=90,
        num_samples=4,
        executor="inline",
        compile="never",
        pack_size=5,
        evaluation={"samples": 256},
        halving={"eta": 3, "min_steps": 25},
        output_dir=with_store(tmp_path_factory.mktemp("halved")),
    )


def test_the_leaderboard_says_who_stopped_where(halved_result: SweepResult) -> None:
    frame = halved_result.dataframe()
    rungs = halved_result.rungs()
    assert rungs["steps"].unique().tolist() == [25, 75]
    assert rungs.groupby("rung")["goes_on"].sum().tolist() == [4, 2]
    assert frame["status"].value_counts().to_dict() == {"finished": 2, "stopped": 8, "diverged": 2}
    stopped = frame[frame["status"] == "stopped"]
    assert stopped["steps"].value_counts().to_dict() == {25: 6, 75: 2}
    assert (
        stopped["reason"]
        .str.match(r"Stopped at rung [12] of 2, after \d+ of 90 steps: rank \d+ of \d+ by elbo")
        .all()
    )
    last = rungs.sort_values("rung").groupby("key")["value"].last()
    np.testing.assert_array_equal(stopped["elbo"], last[stopped["key"]])
    assert halved_result.best().steps == 90


def test_curves_are_whole_across_packs(halved_result: SweepResult) -> None:
    curves = halved_result.curves()
    part = curves[curves["metric"] == "train/loss"]
    steps = halved_result.dataframe().set_index("key")["steps"]
    for key, one in part.groupby("configuration"):
        assert one["step"].tolist() == list(range(1, steps[key] + 1))
    best = halved_result.best()
    assert best.losses.shape == (90,)
    assert best.losses.numpy() == pytest.approx(part[part["configuration"] == best.key]["value"].to_numpy())


def test_nothing_is_left_behind_and_a_stopped_fit_can_be_drawn_from(halved_result: SweepResult) -> None:
    assert not (halved_result.directory / JOURNAL).exists()
    frame = halved_result.dataframe()
    stopped = halved_result.get(frame.loc[frame["status"] == "stopped", "key"].iloc[0])
    assert stopped.sample(3)["mu"].shape == (3, 2)


def test_mlflow_has_one_run_each_with_its_rungs(halved_result: SweepResult) -> None:
    client = MlflowClient(halved_result.tracking_uri)
    assert halved_result.experiment_id is not None
    runs = client.search_runs([halved_result.experiment_id], max_results=100)
    assert len(runs) == 13
    frame = halved_result.dataframe().set_index("run_id")
    best = client.get_metric_history(frame.index[0], "rung/elbo")
    assert [point.step for point in best] == [25, 75]
    stopped = next(run for run in runs if frame["status"].get(run.info.run_id) == "stopped")
    assert stopped.data.tags["vi.reason"].startswith("Stopped at rung")
    assert halved_result.parent_run_id is not None
    files = {file.path for file in client.list_artifacts(halved_result.parent_run_id)}
    assert "rungs.parquet" in files
    note = client.get_run(halved_result.parent_run_id).data.tags["mlflow.note.content"]
    assert "Halving saved" in note and "Rung 2 at 75 steps" in note
    curve = client.get_metric_history(frame.index[0], "train/loss")
    assert [point.step for point in curve] == list(range(1, 91))


def test_what_was_saved_and_risked_is_told(halved_result: SweepResult) -> None:
    told = lines(halved_result.rungs(), halved_result.dataframe())
    less, full = saved(halved_result.rungs())
    assert less == 6 * 65 + 2 * 15
    assert told[0] == f"halving saved {less:,} of {full:,} steps ({less / full:.0%})"
    assert told[1].startswith("rung 1 at 25 steps: 4 of ") and "below the cut" in told[1]
    assert "rank correlation" in told[1]


def test_a_sweep_without_rungs_has_none(result: SweepResult) -> None:
    assert result.rungs().empty
    assert lines(result.rungs(), result.dataframe()) == []
    assert read_rungs(Path("nowhere")).empty


def test_a_rung_in_hindsight_by_hand() -> None:
    values = {"a": 5.0, "b": 4.0, "c": 3.0, "d": 2.5, "e": math.nan}
    rows = [
        {
            "generation": 1,
            "rung": 1,
            "steps": 10,
            "key": key,
            "value": value,
            "rank": rank,
            "goes_on": rank <= 3,
            "of": 100,
        }
        for rank, (key, value) in enumerate(values.items(), start=1)
    ]
    table = rung_table(rows)
    (one,) = halved(table, {"a": 6.0, "b": 9.0, "c": 7.0})
    assert (one.ranked, one.kept, one.best_stopped, one.gap, one.gain) == (5, 3, "d", 0.5, 5.0)
    assert one.correlation == pytest.approx(-0.5)  # ranks 3, 2, 1 against 1, 3, 2
    assert saved(table) == (180, 500)


def test_one_that_keeps_all_has_nobody_stopped() -> None:
    table = rung_table(
        [
            {
                "generation": 1,
                "rung": 1,
                "steps": 10,
                "key": "a",
                "value": 1.0,
                "rank": 1,
                "goes_on": True,
                "of": 20,
            }
        ]
    )
    (one,) = halved(table, {})
    assert one.best_stopped == "" and math.isnan(one.gap) and math.isnan(one.correlation)
    assert lines(table, leaderboard([]))[1] == "rung 1 at 10 steps: 1 of 1 went on"
    assert isinstance(table, pd.DataFrame)


def test_a_rung_that_nobody_reaches_is_refused_before_anything_starts(
    experiment: Experiment, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match="no configuration takes more than 90") as caught:
        experiment.sweep(
            SPACE, steps=90, halving={"min_steps": 90}, executor="inline", output_dir=tmp_path / "out"
        )
    assert caught.value.key == "halving.min_steps"
    assert not (tmp_path / "out").exists()
