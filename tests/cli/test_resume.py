"""A sweep that was killed goes on where it stood, and ends as one that nobody disturbed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result
from mlflow.tracking import MlflowClient

from vi_dist.checked_files import read_json
from vi_dist.report.sweep_directory import find_sweep, read_curves, read_leaderboard
from vi_dist.sweep.spec import load_spec
from vi_dist.tracking.store import KEY_TAG

VI = Callable[..., Result]
OVERRIDES = (
    "space={guide: [mean_field], learning_rate: {low: 0.01, high: 0.1, log: true}}",
    "search=tpe",
    "configurations=3",
    "generation=2",
    "steps=300",
    "pack_size=1",
)
ARGUMENTS = ["sweep", "sweep.yaml", *[word for override in OVERRIDES for word in ("--set", override)]]
PROGRAM = "from vi_dist.cli.main import main; main()"


def started(folder: Path, after: str) -> Path:
    """The directory of a sweep that is killed as soon as a file of its journal is there."""
    arguments = [sys.executable, "-c", PROGRAM, *ARGUMENTS, "--output-dir", "killed"]
    process = subprocess.Popen(arguments, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not list((folder / "killed").glob(f"*/journal/{after}")):
            assert process.poll() is None and time.monotonic() < deadline, "it has not come that far"
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    (directory,) = (path for path in (folder / "killed").iterdir() if path.is_dir())
    return directory


def told(directory: Path) -> dict[str, tuple[str, dict[str, list[tuple[int, float]]]]]:
    """What MLflow holds of every configuration, by key: status, and the points of each metric, seconds aside."""
    client = MlflowClient(f"sqlite:///{directory.parent / 'mlflow.db'}")
    (experiment,) = [found for found in client.search_experiments() if found.name == "toy"]
    runs = client.search_runs([experiment.experiment_id])
    found = {}
    for run in runs:
        names = [name for name in run.data.metrics if name.startswith(("train/", "progress/", "final/e"))]
        histories = {name: client.get_metric_history(run.info.run_id, name) for name in names}
        curves = {name: [(point.step, point.value) for point in points] for name, points in histories.items()}
        found[run.data.tags[KEY_TAG]] = (run.info.status, curves)
    return found


@pytest.mark.slow
def test_a_killed_sweep_resumed_ends_as_the_undisturbed_one(
    folder: Path, vi_dist: VI, with_store: Callable[[Path], Path]
) -> None:
    killed = started(folder, after="1.answers")
    resumed = vi_dist("resume", "killed", "--json")
    assert resumed.exit_code == 0
    assert "tracking:" not in resumed.stderr
    client = MlflowClient(f"sqlite:///{killed.parent / 'mlflow.db'}")
    assert int(client.get_model_version_by_alias("toy", "champion").version) == 1
    assert vi_dist(*ARGUMENTS, "--output-dir", str(with_store(folder / "whole"))).exit_code == 0
    whole = find_sweep(folder / "whole")

    apart = ["seconds", "run_id"]
    pd.testing.assert_frame_equal(
        read_leaderboard(killed).drop(columns=apart), read_leaderboard(whole).drop(columns=apart)
    )
    pd.testing.assert_frame_equal(read_curves(killed), read_curves(whole))
    assert told(killed) == told(whole), "every point once, every run closed as it ended"
    plans = [read_json(directory / "plan.json") for directory in (killed, whole)]
    assert plans[0]["configurations"] == plans[1]["configurations"]
    assert plans[0]["packs"] == plans[1]["packs"]

    again = vi_dist("resume", "killed")
    assert again.exit_code == 2
    assert "this sweep is over" in again.stderr


@pytest.mark.slow
def test_what_is_not_the_same_sweep_any_more_does_not_go_on(
    folder: Path, vi_dist: VI, with_store: Callable[[Path], Path]
) -> None:
    with_store(folder / "killed")
    killed = started(folder, after="0.answers")
    model = folder / "model.py"
    text = model.read_text()
    model.write_text(text.replace("Normal(0.0, 1.0)", "Normal(0.0, 2.0)"))
    assert model.read_text() != text
    refused = vi_dist("resume", str(killed))
    assert refused.exit_code == 2
    assert "model.py: the model has changed since the sweep in" in refused.stderr
    assert load_spec(killed / "spec.resolved.yaml").search == "tpe"

    assert "no sweep here" in vi_dist("resume", str(folder)).stderr
