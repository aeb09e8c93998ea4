"""A shard's rows of the data, read from where they are stored without holding the others."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vi_dist.errors import ModelError
from vi_dist.model.data import load_data
from vi_dist.model.storage import is_address, located, readable

if TYPE_CHECKING:
    from vi_dist.model.data import Data

# Rows of a CSV file that are held at once.
_CSV_ROWS = 100_000


@dataclass(frozen=True)
class ShardRows:
    """The rows of one shard.

    Attributes:
        data: columns by name; with groups, the group column is recoded to 0..G_s - 1.
        ids: numbers of the shard's rows (or of its groups) among all, int64 `(n,)`.
        total: rows of all shards together.
    """

    data: Data
    ids: Tensor
    total: int

    @property
    def rows(self) -> int:
        """Number of rows here."""
        return next((len(column) for column in self.data.values() if np.ndim(column)), 0)


def shard_rows(source: object, rank: int, count: int, group_by: str | None = None) -> ShardRows:
    """The rows of shard `rank` of `count`: equal runs of rows or, with groups, runs of groups of about equal rows.

    Args:
        source: a mapping of arrays, a DataFrame, or the paths of npz, csv or parquet files, whose rows follow another.
        group_by: a column of integers or strings; rows of one value stay together.

    Raises `ModelError` for columns of different lengths, missing values (with their rows), a group column that is not
    there, and fewer rows or groups than shards.
    """
    parts = _parts(source)
    total = _total(parts)
    if group_by is None:
        _enough(total, count, "rows")
        first, end = total * rank // count, total * (rank + 1) // count
        chosen = np.arange(first, end)
        data = _take(parts, chosen)
        return ShardRows(_checked(data, chosen), torch.from_numpy(chosen), total)
    labels = _column(parts, group_by)
    names, codes = np.unique(labels, return_inverse=True)
    _enough(len(names), count, f"groups in {group_by}")
    # A group goes where the middle of its rows falls among all rows, groups in order.
    sizes = np.bincount(codes, minlength=len(names))
    owner = ((np.cumsum(sizes) - sizes / 2) * count // total).astype(np.int64)
    groups = np.flatnonzero(owner == rank)
    chosen = np.flatnonzero(owner[codes] == rank)
    data = _checked(_take(parts, chosen), chosen)
    data[group_by] = torch.from_numpy(np.searchsorted(groups, codes[chosen]).astype(np.int64))
    return ShardRows(data, torch.from_numpy(groups.astype(np.int64)), total)


def count_rows(source: object) -> int:
    """Rows of the data; see `shard_rows`."""
    return _total(_parts(source))


def _enough(there: int, count: int, what: str) -> None:
    if there < count:
        raise ModelError(
            f"{count} shards, and the data have {there} {what}; write shards: {max(there, 1)} or fewer",
            key="shards",
        )


class _InMemory:
    """Columns that are here already."""

    def __init__(self, source: object) -> None:
        self.columns = load_data(source)
        self.name = None
        if not self.columns:
            raise ModelError(
                "there are no data, so there are no rows to shard; leave shards out", key="shards"
            )

    def names(self) -> list[str]:
        return list(self.columns)

    def lengths(self) -> dict[str, int]:
        return {name: len(column) for name, column in self.columns.items() if np.ndim(column)}

    def take(self, name: str, rows: Any) -> Any:
        column = self.columns[name]
        return column[rows] if np.ndim(column) else column


class _Npz:
    """An archive of arrays: each is read whole when it is asked for, and let go again."""

    def __init__(self, path: str | Path) -> None:
        self.name, self._archive = str(path), np.load(readable(path), allow_pickle=False)

    def names(self) -> list[str]:
        return list(self._archive.files)

    def lengths(self) -> dict[str, int]:
        shapes = {name: self._shape(name) for name in self.names()}
        return {name: shape[0] for name, shape in shapes.items() if shape}

    def take(self, name: str, rows: Any) -> Any:
        column = self._archive[name]
        return column[rows] if np.ndim(column) else column

    def _shape(self, name: str) -> tuple[int, ...]:
        with self._archive.zip.open(f"{name}.npy") as stream:
            version = np.lib.format.read_magic(stream)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape: tuple[int, ...] = read(stream)[0]
            return shape


class _Table:
    """A parquet or csv file, read in pieces."""

    def __init__(self, path: str | Path) -> None:
        self.name, self._path, self._parquet = str(path), path, located(path).suffix == ".parquet"
        if self._parquet:
            import pyarrow.parquet as parquet

            self._file = parquet.ParquetFile(readable(path))

    def names(self) -> list[str]:
        if self._parquet:
            return list(self._file.schema_arrow.names)
        return list(self._csv(nrows=0).columns)

    def lengths(self) -> dict[str, int]:
        rows = (
            self._file.metadata.num_rows
            if self._parquet
            else sum(len(piece) for _, piece in self._pieces(None))
        )
        return dict.fromkeys(self.names(), rows)

    def take(self, name: str, rows: Any) -> Any:
        kept, rows = [], np.asarray(rows)
        for first, piece in self._pieces(name):
            low, high = np.searchsorted(rows, (first, first + len(piece)))
            if high > low:
                kept.append(piece.to_numpy()[rows[low:high] - first])
        values = np.concatenate(kept) if kept else self._nothing(name)
        return values.astype(str) if values.dtype.kind == "O" else values

    def _nothing(self, name: str) -> Any:
        with contextlib.closing(self._pieces(name)) as pieces:
            return next(pieces)[1].to_numpy()[:0]

    def _csv(self, **options: Any) -> Any:
        import pandas as pd

        return pd.read_csv(readable(self._path), **options)

    def _pieces(self, name: str | None) -> Generator[tuple[int, Any]]:
        """First rows and columns (any, if no name is given) of the file's pieces."""
        first = 0
        if self._parquet:
            for number in range(self._file.num_row_groups):
                piece = (
                    self._file.read_row_group(number, columns=[name or self.names()[0]])
                    .to_pandas()
                    .iloc[:, 0]
                )
                yield first, piece
                first += len(piece)
            return
        column = [name or self.names()[0]]
        with self._csv(usecols=column, chunksize=_CSV_ROWS) as frames:
            for frame in frames:
                yield first, frame.iloc[:, 0]
                first += len(frame)


_Part = _InMemory | _Npz | _Table


def _parts(source: object) -> list[_Part]:
    """The places in which the rows are, in order."""
    if isinstance(source, str | Path):
        source = [source]
    if not isinstance(source, Sequence):
        return [_InMemory(source)]
    parts: list[_Part] = []
    for one in source:
        path = str(one) if is_address(one) else Path(str(one))
        if located(path).suffix == ".npz":
            parts.append(_Npz(path))
        elif located(path).suffix in (".parquet", ".csv"):
            parts.append(_Table(path))
        else:
            raise ModelError(
                f"{located(path).name} cannot be read by rows",
                path=path,
                key="data",
                allowed=(".npz", ".csv", ".parquet"),
            )
    return parts


def _total(parts: Sequence[_Part]) -> int:
    total = 0
    for part in parts:
        lengths = part.lengths()
        if len(set(lengths.values())) > 1:
            named = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise ModelError(
                f"the columns have different lengths, so they share no rows: {named}",
                path=part.name,
                key="data",
            )
        total += next(iter(lengths.values()), 0)
    if set(map(tuple, (sorted(part.names()) for part in parts[1:]))) - {tuple(sorted(parts[0].names()))}:
        raise ModelError("the files have different columns", path=parts[1].name, key="data")
    return total


def _column(parts: Sequence[_Part], name: str) -> Any:
    if name not in parts[0].names():
        raise ModelError(f"there is no column {name} to group by", key="group_by", allowed=parts[0].names())
    pieces = [part.take(name, np.arange(part.lengths()[name])) for part in parts]
    return np.concatenate([np.asarray(piece) for piece in pieces])


def _take(parts: Sequence[_Part], rows: Any) -> dict[str, Any]:
    """Those rows (in ascending order) of every column."""
    data: dict[str, Any] = {}
    for name in parts[0].names():
        pieces, first = [], 0
        for part in parts:
            length = part.lengths().get(name)
            if length is None:
                pieces = [part.take(name, rows)]
                break
            low, high = np.searchsorted(rows, (first, first + length))
            pieces.append(np.asarray(part.take(name, rows[low:high] - first)))
            first += length
        data[name] = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    return data


def _checked(data: Mapping[str, Any], rows: Any) -> Data:
    """As tensors; missing values are named by their rows among all."""
    for name, column in data.items():
        values = np.asarray(column)
        if values.dtype.kind == "f" and values.ndim and np.isnan(values).any():
            bad = rows[np.isnan(values).reshape(len(values), -1).any(1)]
            listed = ", ".join(map(str, bad[:5])) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
            raise ModelError(
                f"{name} is missing (NaN) at row {listed}; drop or impute these rows", key=f"data.{name}"
            )
    return load_data(dict(data))
