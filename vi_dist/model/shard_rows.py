"""A shard's rows of the data, read from where they are stored without holding the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vi_dist.errors import ModelError
from vi_dist.model.conversion import UnfitValueError, to_column
from vi_dist.model.data import open_data
from vi_dist.model.row_sources import RowSource, check_alike, row_sources

if TYPE_CHECKING:
    from vi_dist.model.data import Data


@dataclass(frozen=True)
class ShardRows:
    """The rows of one shard.

    Attributes:
        data: columns by name; with groups, the group column is recoded to 0..G_s - 1.
        ids: numbers of the shard's rows (or of its groups) among all, int64 `(n,)`.
        total: rows of all shards together.
        labels: with groups, what the group column calls those of this shard, in the order of `ids`, `(G_s,)`.
    """

    data: Data
    ids: Tensor
    total: int
    labels: np.ndarray[Any, Any] | None = None

    @property
    def rows(self) -> int:
        """Number of rows here."""
        return next((len(column) for column in self.data.usable().values() if np.ndim(column)), 0)


def shard_rows(
    source: object,
    rank: int,
    count: int,
    group_by: str | None = None,
    columns: Collection[str] | None = None,
) -> ShardRows:
    """The rows of shard `rank` of `count`: equal runs of rows or, with groups, runs of groups of about equal rows.

    Args:
        source: a mapping of arrays, a DataFrame, or the paths of npz, csv or parquet files, whose rows follow another.
        group_by: a column of integers or strings; rows of one value stay together.
        columns: the names of those wanted; all of them where it is None.

    Raises `ModelError` for columns of different lengths, a name that there is not, a
    group column that is not there or has not one label a row, files that cannot be read, data without rows, and fewer
    rows or groups than shards.
    """
    parts = _filled(source, columns)
    total = sum(parts.values())
    if group_by is None:
        _enough(total, count, "rows")
        first, end = total * rank // count, total * (rank + 1) // count
        chosen = np.arange(first, end)
        return ShardRows(open_data(_take(parts, chosen)), torch.from_numpy(chosen), total)
    names, codes = np.unique(_labels(parts, group_by), return_inverse=True)
    _enough(len(names), count, f"groups in {group_by}")
    first, end = _runs(np.bincount(codes, minlength=len(names)), count)[rank]
    chosen = np.flatnonzero((first <= codes) & (codes < end))
    data = open_data(_take(parts, chosen))
    data[group_by] = torch.from_numpy((codes[chosen] - first).astype(np.int64))
    return ShardRows(data, torch.arange(first, end), total, names[first:end])


def count_rows(source: object, columns: Collection[str] | None = None) -> int:
    """Rows of the data; see `shard_rows`."""
    return sum(_filled(source, columns).values())


def _enough(there: int, count: int, what: str) -> None:
    if there < count:
        raise ModelError(
            f"{count} shards, and the data have {there} {what}; write shards: {there} or fewer", key="shards"
        )


def _runs(sizes: np.ndarray[Any, Any], count: int) -> list[tuple[int, int]]:
    """The first group of each shard and the one behind its last: at least one each, and about equal rows.

    A shard takes the groups whose middle row falls into its part of the rows that are left.
    """
    before = np.cumsum(sizes) - sizes
    total, cuts = int(sizes.sum()), [0]
    for left in range(count, 1, -1):
        gone = before[cuts[-1]]
        wanted = int(np.searchsorted(before + sizes / 2, gone + (total - gone) / left))
        cuts.append(min(max(wanted, cuts[-1] + 1), len(sizes) - left + 1))
    return list(pairwise([*cuts, len(sizes)]))


def _filled(source: object, columns: Collection[str] | None = None) -> dict[RowSource, int]:
    """The places that have rows, in order, with how many they have."""
    parts = row_sources(source, columns)
    rows = {part: _length(part) for part in parts}
    for part in parts[1:]:
        if sorted(part.names()) != sorted(parts[0].names()):
            ours, first = ", ".join(part.names()), ", ".join(parts[0].names())
            raise ModelError(
                f"the files have different columns: here {ours}, and in {parts[0].name} {first}",
                path=part.name,
                key="data",
            )
    if not any(rows.values()):
        where = parts[0].name if len(parts) == 1 else None
        raise ModelError("the data have no rows, so there is nothing to shard", path=where, key="data")
    # A table without rows knows no types, which would make text of the other files' numbers.
    return {part: length for part, length in rows.items() if length}


def _length(part: RowSource) -> int:
    """Rows of a place."""
    lengths = part.lengths()
    if len(set(lengths.values())) > 1:
        named = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ModelError(
            f"the columns have different lengths, so they share no rows: {named}", path=part.name, key="data"
        )
    return next(iter(lengths.values()), 0)


def _labels(parts: Mapping[RowSource, int], name: str) -> np.ndarray[Any, Any]:
    """The group of every row."""
    pieces = []
    for part, length in parts.items():
        if name not in part.names():
            raise ModelError(
                f"there is no column {name} to group by", path=part.name, key="group_by", allowed=part.names()
            )
        piece = _read(part, name, np.arange(length))
        if piece.ndim != 1:
            raise ModelError(
                f"{name} has shape {piece.shape}; a column to group by has one label a row",
                path=part.name,
                key="group_by",
            )
        pieces.append(piece)
        check_alike(name, pieces[0], piece, part.name)
    return np.concatenate(pieces)


def _take(parts: Mapping[RowSource, int], rows: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Those rows (in ascending order) of every column, or the error in place of one that cannot be used."""
    data: dict[str, Any] = {}
    for name in next(iter(parts)).names():
        try:
            data[name] = _take_column(parts, name, rows)
        except ModelError as error:
            data[name] = error
    return data


def _take_column(
    parts: Mapping[RowSource, int], name: str, rows: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    pieces, first = [], 0
    for part, length in parts.items():
        low, high = np.searchsorted(rows, (first, first + length))
        piece = _read(part, name, rows[low:high] - first)
        # What has no rows is the first file's.
        if not piece.ndim:
            return piece
        if high > low:
            pieces.append(piece)
            check_alike(name, pieces[0], piece, part.name)
        first += length
    return np.concatenate(pieces) if pieces else piece


def _read(part: RowSource, name: str, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Rows of a column, by their numbers in their file; raises `ModelError` where one is missing or no value."""
    import pandas as pd

    values = np.asarray(part.take(name, rows))
    missing = np.asarray(pd.isna(values))
    if missing.any():
        bad = rows[missing.reshape(len(rows), -1).any(1)] if missing.ndim else rows[:0]
        where = f" at row {', '.join(map(str, bad[:5]))}" if len(bad) else ""
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise ModelError(
            f"{name} is missing (NaN){where}{more}; drop or impute these rows",
            path=part.name,
            key=f"data.{name}",
        )
    try:
        return np.asarray(to_column(values))
    except UnfitValueError as error:
        if error.position:
            error.position = (int(rows[error.position[0]]), *error.position[1:])
        raise ModelError(error.sentence(name), path=part.name, key=f"data.{name}") from error
