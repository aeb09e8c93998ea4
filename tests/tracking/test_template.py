from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from vi_dist.tracking.environment import default_tracking_uri
from vi_dist.tracking.opening import open_store
from vi_dist.tracking.template import copy_template, keep_template, template


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VI_DIST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def kept(cache: Path, schema: Path) -> Path:
    """The template that comes of a store which MLflow made."""
    keep_template(schema)
    return template()


def _described(file: Path) -> list[tuple[object, ...]]:
    """Tables, indices and all rows but those of experiments, which name a directory."""
    with closing(sqlite3.connect(file)) as connection:
        found = connection.execute("select type, name, sql from sqlite_master order by name").fetchall()
        for kind, name, _ in list(found):
            if kind == "table" and name != "experiments":
                found += [(name, *row) for row in connection.execute(f'select * from "{name}"')]
    return found


def test_a_copy_is_what_mlflow_makes(kept: Path, schema: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("select * from experiments").fetchall() == []
    (tmp_path / "here").mkdir()
    store = open_store(default_tracking_uri(tmp_path / "here"))
    assert _described(tmp_path / "here" / "mlflow.db") == _described(schema)
    (default,) = store.client.search_experiments()
    assert (default.name, default.experiment_id) == ("Default", "0")
    assert str(schema.parent) not in default.artifact_location


def test_a_store_that_is_there_is_left_alone(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"")
    assert not copy_template(tmp_path / "mlflow.db")
    assert (tmp_path / "mlflow.db").read_bytes() == b""


def test_where_files_cannot_be_linked_mlflow_makes_the_store(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*paths: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", link)
    (tmp_path / "there").mkdir()
    assert not copy_template(tmp_path / "there" / "mlflow.db")
    assert list((tmp_path / "there").iterdir()) == []


def test_a_damaged_template_is_replaced(kept: Path, schema: Path, tmp_path: Path) -> None:
    content = bytearray(kept.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    kept.write_bytes(content)
    open_store(default_tracking_uri(tmp_path))
    made = _described(tmp_path / "mlflow.db")
    # By name: in what order constraints stand differs from one of MLflow's processes to the next.
    assert {row[:2] for row in made} == {row[:2] for row in _described(schema)}
    assert _described(kept) == made


def test_another_mlflow_has_another_template(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = template()
    monkeypatch.setattr("vi_dist.tracking.template.version", lambda package: "0.0")
    assert template() != before
