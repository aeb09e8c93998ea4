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
from vi_dist.model.shard_rows import ShardRows, count_rows, shard_rows

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
        np.testing.assert_array_equal(part.labels, own)
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
        ({"x": [1.0] * 9, "g": 2}, "g", r"g has shape \(\); a column to group by has one label a row"),
        (
            {"x": [1.0] * 4, "g": [[0, 1]] * 4},
            "g",
            r"g has shape \(4, 2\); a column to group by has one label",
        ),
        ([], None, "the list of data files is empty; name at least one file"),
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


def refusal(source: Any, rank: int, count: int, group_by: str | None = None) -> ModelError:
    """The error of cutting the data or of reading a column of them."""
    with pytest.raises(ModelError) as error:
        [*shard_rows(source, rank, count, group_by).data.values()]
    return error.value


def written(folder: Path, name: str, frame: pd.DataFrame) -> str:
    path = folder / name
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path, row_group_size=3)
    return str(path)


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
@pytest.mark.parametrize("value", [1.0, "text", True], ids=["number", "string", "truth"])
def test_missing_values_are_named_by_their_rows(tmp_path: Path, name: str, value: object) -> None:
    values = [None if row % 7 == 6 else value for row in range(20)]
    source = written(tmp_path, name, pd.DataFrame({"x": values, "y": 1.0}))
    error = refusal(source, 1, 2)
    assert (error.path, error.key) == (source, "data.x")
    assert error.message == "x is missing (NaN) at row 13; drop or impute these rows"
    assert shard_rows(source, 0, 4).rows == 5, "the rows of others are theirs"


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
@pytest.mark.parametrize("labels", [[0.0, 1.0, 2.0], ["a", "b", "c"]], ids=["numbers", "strings"])
def test_a_missing_label_is_no_group(tmp_path: Path, name: str, labels: list[object]) -> None:
    """Nor does it wait for the shard that would get it."""
    column = [None if row > 12 else labels[row % 3] for row in range(20)]
    source = written(tmp_path, name, pd.DataFrame({"x": 1.0, "g": column}))
    error = refusal(source, 0, 2, "g")
    assert (error.path, error.key) == (source, "data.g")
    assert "g is missing (NaN) at row 13, 14, 15, 16, 17 and 2 more; drop" in error.message


def test_what_is_wrong_in_one_of_several_files_names_that_file(tmp_path: Path) -> None:
    sound = written(tmp_path, "sound.parquet", pd.DataFrame({"x": np.ones(8), "g": 1}))
    missing = written(
        tmp_path, "missing.csv", pd.DataFrame({"x": [1.0, 1.0, np.nan], "g": [2.0, np.nan, 3.0]})
    )
    other = written(tmp_path, "other.csv", pd.DataFrame({"z": np.ones(3), "g": 1}))
    for group_by, words in ((None, "x is missing (NaN) at row 2;"), ("g", "g is missing (NaN) at row 1;")):
        error = refusal([sound, missing], 1, 2, group_by)
        assert error.path == missing
        assert words in error.message
    error = refusal([sound, sound, other], 0, 2)
    assert error.path == other
    assert error.message == f"the files have different columns: here z, g, and in {sound} x, g"
    error = refusal([sound, sound], 0, 2, "county")
    assert (error.path, error.allowed) == (sound, ("x", "g"))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "sizes", [[100, 1, 1, 1], [1, 1, 1, 100], [1, 100, 1, 1], [100, *[1] * 50], [*[1] * 50, 100], [3] * 40]
)
def test_every_shard_has_a_run_of_groups_and_about_its_part_of_the_rows(sizes: list[int], count: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    parts = shards({"g": labels}, count, "g")
    assert all(len(part.ids) for part in parts)
    assert torch.equal(torch.cat([part.ids for part in parts]), torch.arange(len(sizes)))
    assert [part.rows for part in parts] == [sum(sizes[group] for group in part.ids) for part in parts]
    # Nobody has more than the largest group beside its part of all rows.
    assert max(part.rows for part in parts) <= sum(sizes) / count + max(sizes)


def test_rows_that_one_large_group_leaves_are_shared_out() -> None:
    labels = np.repeat(np.arange(51), [100, *[1] * 50])
    assert [part.rows for part in shards({"g": labels}, 3, "g")] == [100, 25, 25]


def npy(folder: Path) -> bytes:
    np.save(folder / "rows.npy", np.ones(5))
    return (folder / "rows.npy").read_bytes()


CONTENTS: dict[str, Callable[[Path], bytes]] = {
    "empty.csv": lambda _: b"",
    "open.csv": lambda _: b'x,y\n1,"2\n1,2\n',
    "binary.csv": lambda _: b"x,y\n\xff\xfe,2\n",
    "text.parquet": lambda _: b"no parquet",
    "empty.parquet": lambda _: b"",
    "cut.parquet": lambda folder: Path(parquet(folder)).read_bytes()[:-20],
    "text.npz": lambda _: b"no archive",
    "empty.npz": lambda _: b"",
    "array.npz": npy,
    "cut.npz": lambda folder: npz(folder).read_bytes()[:-20],
    "damaged.npz": lambda folder: npz(folder).read_bytes().replace(b"NUMPY", b"YPMUN", 1),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(CONTENTS[name](tmp_path))
    error = refusal(str(path), 0, 2)
    assert (error.path, error.key) == (str(path), "data")
    assert error.message.startswith(f"the file cannot be read as {path.suffix[1:]}: ")
    assert "pickle" not in error.message


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.npz"])
def test_a_file_that_is_not_there_is_not_one_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    error = refusal(str(tmp_path / name), 0, 2)
    assert (error.path, error.message) == (str(tmp_path / name), "there is no such file")


@pytest.mark.parametrize("group_by", [None, "x"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_data_without_rows_are_refused_as_such(tmp_path: Path, name: str, group_by: str | None) -> None:
    source = written(tmp_path, name, pd.DataFrame({"x": np.ones(0)}))
    for one, path in ((source, source), ([source, source], None), ({"x": []}, None), ({"x": 2.5}, None)):
        error = refusal(one, 0, 1, group_by)
        assert (error.path, error.key) == (path, "data")
        assert error.message == "the data have no rows, so there is nothing to shard"
    with pytest.raises(ModelError, match="the data have no rows"):
        count_rows(source)


@pytest.mark.parametrize("group_by", [None, "k"])
def test_a_file_without_rows_among_others_changes_nothing(tmp_path: Path, group_by: str | None) -> None:
    frame = pd.DataFrame(columns())
    nothing = written(tmp_path, "nothing.csv", frame.iloc[:0])
    source = [nothing, *several(tmp_path), nothing]
    for part, other in zip(shards(source, 3, group_by), shards(columns(), 3, group_by), strict=True):
        for name, column in other.data.items():
            np.testing.assert_array_equal(part.data[name], column)
            assert part.data[name].dtype == column.dtype
