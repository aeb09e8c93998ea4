from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vi_dist
from vi_dist.errors import SpecError
from vi_dist.tracking.environment import absolute_uri, database, default_tracking_uri
from vi_dist.tracking.limits import LONGEST_NAME, safe_name
from vi_dist.tracking.note import leaderboard_note, link_runs
from vi_dist.tracking.provenance import source_tags

REPOSITORY = Path(vi_dist.__file__).parents[1]


def test_uris_do_not_depend_on_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("sqlite:///a/mlflow.db") == f"sqlite:///{tmp_path}/a/mlflow.db"
    assert absolute_uri("mlruns") == str(tmp_path / "mlruns")
    assert absolute_uri("https://u:p@host/x") == "https://u:p@host/x"
    assert default_tracking_uri("out") == f"sqlite:///{tmp_path}/out/mlflow.db"
    assert database(default_tracking_uri("out")) == tmp_path / "out" / "mlflow.db"
    assert database("http://host") is None


def test_a_sqlite_uri_without_a_file_is_a_users_mistake() -> None:
    with pytest.raises(SpecError, match="names no file"):
        absolute_uri("sqlite://")


def test_the_drivers_side_does_not_import_mlflow() -> None:
    names = "tracker, records, spool, budget, provenance, note, views, sync, ui"
    script = f"""
import sys
from vi_dist.tracking import {names}
heavy = {{"mlflow", "torch", "pandas", "sqlalchemy", "ray"}} & set(sys.modules)
assert not heavy, heavy
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


def test_source_tags_name_user_program_and_commit(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert "mlflow.source.git.commit" not in source_tags(tmp_path / "sweep.yaml")
    git("init")
    git("commit", "--allow-empty", "-m", "first")
    tags = source_tags(tmp_path / "sweep.yaml")
    assert tags["mlflow.source.git.commit"] == git("rev-parse", "HEAD")
    assert tags["mlflow.source.name"] == str(tmp_path / "sweep.yaml")
    assert tags["mlflow.user"]


def test_safe_names_are_what_mlflow_takes() -> None:
    from mlflow.utils.validation import _validate_metric_name

    for name in ["train/elbo", "theta[0, 1]", "../x", "/", "", "a//b/", "α", "x" * 400, ".", "a b:c"]:
        safe = safe_name(name)
        assert len(safe) <= LONGEST_NAME
        _validate_metric_name(safe)


def test_a_long_note_ends_with_a_whole_row() -> None:
    rows = [{"rank": n, "name": "x" * 60, "key": f"k{n}", "elbo": -1.0} for n in range(300)]
    note = leaderboard_note(rows, ["rank", "name", "elbo"], top=250)
    assert note.endswith("... and 50 more.")
    text = link_runs(note, "1", {f"k{n}": "r" * 32 for n in range(300)}, 8000)
    assert len(text) <= 8000
    assert text.endswith("-1 |\n\n...")


def test_cells_cannot_break_the_table() -> None:
    note = leaderboard_note([{"name": "a|b\nc"}], ["name"])
    assert note.splitlines()[-1] == "| a\\|b c |"
