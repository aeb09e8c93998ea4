"""Every row is in one shard, whatever the data are stored in, and no shard holds another's rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from vi_dist.errors import ModelError
from vi_dist.model.shard_rows import ShardRows, shard_rows

N = 23


def columns() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {
        "x": generator.normal(size=N),
        "k": generator.integers(0, 9, N),
        "name": np.array([f"n{row % 4}" for row in range(N)]),
    }


def parquet(folder: Path) -> Any:
    pd.DataFrame(columns()).to_parquet(folder / "rows.parquet", row_group_size=5)
    return str(folder / "rows.parquet")


def several(folder: Path) -> Any:
    frame = pd.DataFrame(columns())
    frame.iloc[:9].to_parquet(folder / "first.parquet", row_group_size=4)
    frame.iloc[9:].to_csv(folder / "second.csv", index=False)
    return [folder / "first.parquet", folder / "second.csv"]


def npz(folder: Path) -> Any:
    np.savez(folder / "rows.npz", **columns(), scale=np.array(2.5))
    return folder / "rows.npz"


SOURCES: dict[str, Callable[[Path], Any]] = {
    "mapping": lambda _: columns(),
    "frame": lambda _: pd.DataFrame(columns()),
    "parquet": parquet,
    "several": several,
    "npz": npz,
    "addresses": lambda folder: [f"file://{path}" for path in several(folder)],
    "address": lambda folder: f"file://{npz(folder)}",
}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return SOURCES[request.param](tmp_path)


def shards(source: Any, count: int, group_by: str | None = None) -> list[ShardRows]:
    return [shard_rows(source, rank, count, group_by) for rank in range(count)]


@pytest.mark.parametrize("count", [1, 2, 5, N])
def test_shards_are_runs_of_rows_that_make_up_the_whole(source: Any, count: int) -> None:
    parts = shards(source, count)
    assert torch.equal(torch.cat([part.ids for part in parts]), torch.arange(N))
    for name, column in columns().items():
        joined = np.concatenate([np.asarray(part.data[name]) for part in parts])
        np.testing.assert_array_equal(joined, column)
    sizes = [part.rows for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert {part.total for part in parts} == {N}


@pytest.mark.parametrize("by", ["k", "name"])
def test_a_group_stays_in_one_shard_and_is_recoded(source: Any, by: str) -> None:
    labels = columns()[by]
    parts = shards(source, 3, by)
    known = np.unique(labels)
    np.testing.assert_array_equal(np.concatenate([part.ids for part in parts]), np.arange(len(known)))
    seen = 0
    for part in parts:
        own = known[part.ids.numpy()]
        rows = np.flatnonzero(np.isin(labels, own))
        np.testing.assert_array_equal(np.asarray(part.data["x"]), columns()["x"][rows])
        np.testing.assert_array_equal(own[part.data[by].numpy()], labels[rows])
        seen += part.rows
    assert seen == N


def test_what_has_no_rows_goes_to_all(tmp_path: Path) -> None:
    assert [float(part.data["scale"]) for part in shards(npz(tmp_path), 2)] == [2.5, 2.5]


def test_integers_stay_integers_in_every_shard(source: Any) -> None:
    assert {part.data["k"].dtype for part in shards(source, 4)} == {torch.int64}


@pytest.mark.parametrize(
    ("source", "group_by", "words"),
    [
        ({"x": [1.0, 2.0]}, None, "3 shards, and the data have 2 rows; write shards: 2 or fewer"),
        ({"x": [1.0, 2.0], "y": [1.0]}, None, "different lengths, so they share no rows: x 2, y 1"),
        ({"x": [1.0] * 9, "g": [0, 1] * 4 + [0]}, "g", "3 shards, and the data have 2 groups in g"),
        ({"x": [1.0] * 9}, "county", "there is no column county to group by"),
        (None, None, "no rows to shard"),
        ("gone.parquet", None, "there is no such file"),
        ("file:///nowhere/rows.parquet", None, "rows.parquet cannot be opened: FileNotFoundError"),
        ("nosuch://bucket/rows.npz", None, "rows.npz cannot be opened: ValueError: Protocol not known"),
        ("s3://bucket/rows.xls", None, "rows.xls cannot be read by rows"),
    ],
)
def test_what_cannot_be_sharded_is_refused(source: Any, group_by: str | None, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        shard_rows(source, 0, 3, group_by)


def test_missing_values_are_named_by_their_rows_among_all(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.where(np.arange(20) % 7 == 6, np.nan, 1.0)})
    frame.to_parquet(tmp_path / "rows.parquet", row_group_size=3)
    with pytest.raises(ModelError, match="x is missing .NaN. at row 13;"):
        shard_rows(tmp_path / "rows.parquet", 1, 2)
