from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vi_dist.tracking.environment import default_tracking_uri
from vi_dist.tracking.opening import open_store
from vi_dist.tracking.patience import GaveUp, Patience
from vi_dist.tracking.store import Store


def test_two_at_once_make_one_schema(racers: Any, store: Store) -> None:
    assert [process.returncode for process in racers[1]] == [0, 0], racers[1]
    assert [each.name for each in store.client.search_experiments()] == ["Default"]


def test_a_file_that_is_no_database_is_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow.db").write_text("not a database " * 1000)
    monkeypatch.setattr("vi_dist.tracking.patience.LINGER", -1.0)
    troubles: list[str] = []
    with pytest.raises(GaveUp):
        open_store(default_tracking_uri(tmp_path), trouble=troubles.append)
    assert "mlflow.db: file is not a database" in troubles[0]


def test_patience_ends_only_when_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vi_dist.tracking.patience.LINGER", -1.0)
    answers = iter([OSError("away"), OSError("away"), 7])
    troubles: list[str] = []

    def call() -> object:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def away() -> None:
        raise OSError

    patience = Patience(away, alone=lambda: False, trouble=troubles.append, longest_wait=0.001)
    assert patience.call(call) == 7
    assert troubles == ["OSError: away", "OSError: away", ""]
