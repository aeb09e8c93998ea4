"""The commands that work: what they print where, and how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result
from mlflow.tracking import MlflowClient

from vi_dist.report.leaderboard import leaderboard, table_text
from vi_dist.report.sweep_directory import find_sweep, read_leaderboard

VI = Callable[..., Result]
PROGRAM = "from vi_dist.cli.main import main; main()"


def command(*arguments: str) -> list[str]:
    """The command line as a process of its own."""
    return [sys.executable, "-c", PROGRAM, *arguments]


def test_a_sweep_prints_its_leaderboard_then_the_best_then_where_to_look(folder: Path, vi_dist: VI) -> None:
    done = vi_dist("sweep", "sweep.yaml", "--set", "space.seed=[0]", "--output-dir", "out")
    assert done.exit_code == 0, done.stderr
    *table, best, look = done.stdout.strip().splitlines()
    sweep = find_sweep(folder / "out")
    frame = read_leaderboard(sweep)
    assert "\n".join(table).endswith(table_text(frame))
    assert re.fullmatch(r"best: \S+ elbo=-?\d+\.\d+ ± \d+\.\d+", best)
    assert frame["name"][0] in best
    assert look == f"ui: vi-dist ui {sweep}"
    assert "2/2 configurations" in done.stderr and "steps/s" in done.stderr
    assert str(sweep) in done.stderr

    again = vi_dist("leaderboard", "out", "--top", "1")
    assert again.exit_code == 0
    assert again.stdout.splitlines()[-1] == best
    assert "... and 1 more" in again.stdout
    (verdict,) = [line for line in done.stderr.splitlines() if line.startswith("verdict: ")]
    assert verdict in again.stderr
    data = json.loads(vi_dist("leaderboard", str(sweep), "--json").stdout)
    assert [row["key"] for row in data["leaderboard"]] == frame["key"].tolist()
    assert vi_dist("sync", "out").exit_code == 0


def test_json_is_one_object_and_nothing_else(output: Path, vi_dist: VI) -> None:
    overrides = ["space={guide: [delta, mean_field]}", "name=two"]
    done = vi_dist("sweep", "sweep.yaml", "--json", *[word for o in overrides for word in ("--set", o)])
    assert done.exit_code == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["best"]["guide"].startswith("mean_field")
    assert data["leaderboard"][1]["elbo"] is None, "NaN has no place in JSON"
    assert data["interrupted"] is False
    assert data["verdict"].endswith(".")
    assert Path(data["output_dir"]) == output
    assert data["parent_run_id"]


def test_where_nothing_finishes_the_exit_code_is_1(output: Path, vi_dist: VI) -> None:
    done = vi_dist("sweep", "sweep.yaml", "--set", "space={learning_rate: [1.0e+30]}")
    assert done.exit_code == 1, done.stderr
    assert "1 configuration: 1 diverged" in done.stdout
    reason = read_leaderboard(find_sweep(output))["reason"][0]
    assert f"diverged: mean_field-kl_reverse-lr1e30-s0: {reason}" in done.stderr
    summary = json.loads((find_sweep(output) / "summary.json").read_text())
    assert summary["statuses"] == {"diverged": 1}
    assert [reason in line for line in summary["failures"]] == [True]
    assert "best: none" in done.stdout


def test_a_dry_run_shows_configurations_packs_and_memory_and_writes_nothing(
    folder: Path, vi_dist: VI
) -> None:
    done = vi_dist("sweep", "sweep.yaml", "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert "4 configurations in 2 packs" in done.stdout
    assert "mean_field-kl_reverse-lr0.01-s1" in done.stdout
    assert re.search(r"about \d+ MiB a step", done.stdout)
    data = json.loads(vi_dist("sweep", "sweep.yaml", "--dry-run", "--json", "--set", "compile=auto").stdout)
    assert len(data["configurations"]) == 4 and len(data["packs"]) == 2
    assert re.search(r"flat graph, not compiled \(\d+ steps of \d+ nodes: about", data["packs"][0]["step"])
    assert not (folder / "vi-dist-out").exists()


HALVED = (
    "--set",
    "halving={eta: 2, min_steps: 10}",
    "--set",
    "budget={minutes: 30}",
    "--set",
    "time_limit=60",
)


def test_a_dry_run_shows_rungs_and_limits(folder: Path, vi_dist: VI) -> None:
    done = vi_dist("sweep", "sweep.yaml", "--dry-run", *HALVED)
    assert done.exit_code == 0, done.stderr
    told = done.stdout.splitlines()
    assert "rung 1 at 10 steps: 2 of 4 configurations go on" in told
    assert "rung 2 at 20 steps: 1 of 2 configurations go on" in told
    assert any(line.startswith("budget: 30 minutes;") for line in told)
    assert any(line.startswith("time limit: 60 s a configuration") for line in told)


def test_a_dry_run_of_a_search_that_learns_shows_its_first_generation(folder: Path, vi_dist: VI) -> None:
    arguments = ["search=tpe", "configurations=9", "generation=4", "space.seed={low: 0, high: 99}"]
    done = vi_dist(
        "sweep", "sweep.yaml", "--dry-run", *[word for one in arguments for word in ("--set", one)]
    )
    assert done.exit_code == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(
        r"generation 1: 4 configurations in [12] packs; 5 more follow in 2 generations, .* those before", last
    )


def test_the_end_of_a_halved_sweep_says_what_was_saved(output: Path, vi_dist: VI) -> None:
    done = vi_dist("sweep", "sweep.yaml", *HALVED)
    assert done.exit_code == 0, done.stderr
    assert re.search(
        r"halving saved 80 of 160 steps \(50%\); packs, which keep their width, did \d+% less work",
        done.stderr,
    )
    assert "rung 2 at 20 steps: 1 of 2 went on; the best one stopped, " in done.stderr
    assert "4 configurations: 1 finished, 3 stopped" in done.stdout


@pytest.mark.parametrize(
    ("table", "entry"), [("guides", "full_rank"), ("divergences", "amari(alpha)"), ("estimators", "stl")]
)
def test_list_names_every_entry_with_its_arguments(vi_dist: VI, table: str, entry: str) -> None:
    done = vi_dist("list", table)
    assert done.exit_code == 0
    listed = {line.split("  ")[0] for line in done.stdout.splitlines()}
    assert any(line == entry or line.startswith(f"{entry}(") for line in listed)
    assert entry.split("(")[0] in json.loads(vi_dist("list", table, "--json").stdout)


def test_help_needs_nothing_heavy() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from vi_dist.cli.main import app; "
        "done = CliRunner().invoke(app, ['--help']); assert done.exit_code == 0, done.output; "
        "print(*[name for name in ('torch', 'ray', 'mlflow', 'pandas', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.fixture
def half_done(folder: Path, output: Path) -> Iterator[subprocess.Popen[str]]:
    """A sweep of two configurations of which one has finished and the other goes on and on."""
    arguments = ["sweep", "sweep.yaml", "--json"]
    for override in ("space={steps: [20, 10000000]}", "pack_size=1"):
        arguments += ["--set", override]
    process = subprocess.Popen(
        command(*arguments), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("1/2 configurations"):
            break
    time.sleep(1.0)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished_closes_the_runs_and_exits_with_130(
    half_done: subprocess.Popen[str],
) -> None:
    os.kill(half_done.pid, signal.SIGINT)
    stdout, stderr = half_done.communicate(timeout=120)
    assert half_done.returncode == 130, stderr
    data = json.loads(stdout)
    assert data["interrupted"] is True
    assert [row["status"] for row in data["leaderboard"]] == ["finished", "interrupted"]
    assert data["leaderboard"][1]["reason"].startswith("Interrupted after ")
    assert (
        "interrupted: 1 ended and kept; not evaluated, so without ELBO, k-hat and guide: 1 under way"
        in stderr
    )
    assert "1/2 configurations, interrupted, writing results" in stderr
    assert "2/2 configurations" not in stderr
    assert data["champion"].startswith("toy has no champion yet") and "was interrupted" in data["champion"]
    summary = json.loads((Path(data["directory"]) / "summary.json").read_text())
    assert summary["statuses"] == {"finished": 1, "interrupted": 1}
    assert f"vi-dist resume {data['directory']}  takes the steps that are left" in stderr
    runs = MlflowClient(data["tracking_uri"]).search_runs([data["experiment_id"]])
    assert sorted(run.info.status for run in runs) == ["FINISHED", "KILLED", "KILLED"]


@pytest.mark.slow
def test_a_killed_sweep_keeps_what_had_finished_and_sync_closes_its_runs(
    half_done: subprocess.Popen[str], folder: Path, vi_dist: VI
) -> None:
    half_done.kill()
    half_done.wait()
    sweep = find_sweep(folder / "vi-dist-out")
    assert read_leaderboard(sweep)["status"].tolist() == ["finished"]
    assert list((sweep / "journal").glob("*.state")), "the state to go on from"
    assert vi_dist("sync", "vi-dist-out").exit_code == 0
    client = MlflowClient(f"sqlite:///{folder / 'vi-dist-out' / 'mlflow.db'}")
    (experiment,) = [found for found in client.search_experiments() if found.name == "toy"]
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.status for run in runs) == ["FINISHED", "KILLED", "KILLED"]


@pytest.mark.slow
def test_a_sweep_on_a_cluster_by_its_address(folder: Path, output: Path, local_ray: str) -> None:
    arguments = [
        "sweep",
        "sweep.yaml",
        "--executor",
        "ray",
        "--address",
        local_ray,
        "--set",
        "space.guide=[mean_field]",
    ]
    done = subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("ui: ")
    there = read_leaderboard(find_sweep(folder / "vi-dist-out"))
    assert there["status"].tolist() == ["finished", "finished"]


def test_a_leaderboard_of_nothing_has_a_header() -> None:
    frame = leaderboard([])
    assert isinstance(frame, pd.DataFrame)
    assert table_text(frame).startswith("rank")
