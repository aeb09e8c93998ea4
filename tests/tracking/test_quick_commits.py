from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from vi_dist.tracking import quick_commits as quick
from vi_dist.tracking.environment import default_tracking_uri
from vi_dist.tracking.mirror import Mirror
from vi_dist.tracking.quick_commits import quick_commits
from vi_dist.tracking.store import Store


def _journal(file: Path) -> str:
    with closing(sqlite3.connect(file)) as connection:
        return str(connection.execute("pragma journal_mode").fetchone()[0])


@pytest.fixture
def local(output_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store that counts as on a disk of this machine, wherever the tests run."""
    monkeypatch.setattr(quick, "_is_local", lambda file: True)
    return output_dir / "mlflow.db"


def test_the_store_has_its_own_journal_again(local: Path, store: Store) -> None:
    with quick_commits(store.tracking_uri) as durable:
        assert _journal(local) == "wal"
        store.experiment("e")
        durable()
        assert local.with_name("mlflow.db-wal").stat().st_size > 0
    assert _journal(local) == "delete"
    assert sorted(local.parent.glob("mlflow.db*")) == [local]
    assert MlflowClient(store.tracking_uri).get_experiment_by_name("e") is not None


def test_a_store_that_others_look_at_stays_whole(local: Path, store: Store) -> None:
    with closing(sqlite3.connect(local)) as other:
        with quick_commits(store.tracking_uri):
            store.experiment("e")
            assert other.execute("select count(*) from experiments").fetchone() == (2,)
        assert _journal(local) == "wal"
    with quick_commits(store.tracking_uri):
        pass
    assert _journal(local) == "delete"


def test_elsewhere_the_journal_is_left_alone(
    output_dir: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "LOCAL", frozenset())
    with quick_commits(default_tracking_uri(output_dir)) as durable:
        mirror.store.experiment("e")
        durable()
        assert _journal(output_dir / "mlflow.db") == "delete"


def test_a_server_is_left_alone() -> None:
    with quick_commits("http://127.0.0.1:1") as durable:
        durable()
