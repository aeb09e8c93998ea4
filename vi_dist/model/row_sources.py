"""Where rows of data are stored: columns in memory, npz, csv and parquet files, read as rows are asked for."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Collection, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vi_dist.errors import ModelError
from vi_dist.model.data import open_data
from vi_dist.model.data_files import UNREADABLE, check_header, once, read_csv
from vi_dist.model.storage import is_address, located, opened, readable

# Integers up to here are floats of 64 bits too.
_EXACT = 1 << 53
# Rows of a CSV file that are held at once.
_CSV_ROWS = 100_000


@contextlib.contextmanager
def _reading(path: str | Path) -> Generator[None]:
    """A file that cannot be read becomes a `ModelError` that names it."""
    try:
        yield
    except ModelError as error:
        if error.path is not None:
            raise
        raise ModelError(error.message, path=path, key=error.key, allowed=error.allowed) from error
    except UNREADABLE as error:
        what = f"the file cannot be read as {located(path).suffix[1:]}: {str(error).strip()}"
        raise ModelError(what, path=path, key="data") from error


class InMemory:
    """Columns that are here already."""

    def __init__(self, source: object, columns: Collection[str] | None = None) -> None:
        self.columns = open_data(source, columns=columns)
        self.name: str | None = None
        if not self.columns:
            raise ModelError(
                "there are no data, so there are no rows to shard; leave shards out", key="shards"
            )

    def names(self) -> list[str]:
        return list(self.columns)

    def lengths(self) -> dict[str, int]:
        return {name: len(column) for name, column in self.columns.usable().items() if np.ndim(column)}

    def take(self, name: str, rows: Any) -> Any:
        column = self.columns[name]
        return column[rows] if np.ndim(column) else column


class Npz:
    """An archive of arrays: each is read whole when it is asked for, and let go again."""

    def __init__(self, path: str | Path, columns: Collection[str] | None = None) -> None:
        self.name, self._path = str(path), path
        # Not by np.load, which takes what is no archive for a pickle and says how to load that.
        with _reading(path), zipfile.ZipFile(readable(path)) as archive:
            names = [one.removesuffix(".npy") for one in archive.namelist()]
            once(names)
            wanted = _wanted(names, columns)
            self._shapes = {
                name: _shape(archive, one)
                for name, one in zip(names, archive.namelist(), strict=True)
                if name in wanted
            }

    def names(self) -> list[str]:
        return list(self._shapes)

    def lengths(self) -> dict[str, int]:
        return {name: shape[0] for name, shape in self._shapes.items() if shape}

    def take(self, name: str, rows: Any) -> Any:
        with _reading(self._path), np.load(readable(self._path), allow_pickle=False) as archive:
            column = archive[name]
        return column[rows] if np.ndim(column) else column


def _shape(archive: zipfile.ZipFile, member: str) -> tuple[int, ...]:
    """Of an array in an archive, from its header alone."""
    with archive.open(member) as stream:
        old = np.lib.format.read_magic(stream) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape: tuple[int, ...] = read(stream)[0]
        return shape


class Table:
    """A parquet or csv file, read in pieces."""

    def __init__(self, path: str | Path, columns: Collection[str] | None = None) -> None:
        self.name, self._path, self._parquet = str(path), path, located(path).suffix == ".parquet"
        if self._parquet:
            import pyarrow.parquet as parquet

            with _reading(path):
                self._file = parquet.ParquetFile(readable(path))
        with _reading(path):
            self._names = _wanted(self._all_names(), columns)

    def names(self) -> list[str]:
        return self._names

    def _all_names(self) -> list[str]:
        """Of the columns in the file; what pandas wrote as an index is none."""
        if self._parquet:
            schema = self._file.schema_arrow
            index = (schema.pandas_metadata or {}).get("index_columns", [])
            names = [
                name for name in schema.names if name not in [one for one in index if isinstance(one, str)]
            ]
            once(names)
            return names
        with opened(self._path) as stream:
            return check_header(stream)

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
                kept.append(np.asarray(piece.iloc[rows[low:high] - first]))
                check_alike(name, kept[0], kept[-1], self.name)
        return np.concatenate(kept) if kept else self._nothing(name)

    def _nothing(self, name: str) -> Any:
        with contextlib.closing(self._pieces(name)) as pieces:
            return next(pieces)[1].to_numpy()[:0]

    def _csv(self, **options: Any) -> Any:
        with _reading(self._path):
            return read_csv(readable(self._path), **options)

    def _pieces(self, name: str | None) -> Generator[tuple[int, Any]]:
        """First rows and columns (any, if no name is given) of the file's pieces."""
        first, column = 0, [name or self.names()[0]]
        with _reading(self._path):
            if self._parquet:
                for number in range(self._file.num_row_groups):
                    piece = self._file.read_row_group(number, columns=column).to_pandas().iloc[:, 0]
                    yield first, piece
                    first += len(piece)
                return
            with self._csv(usecols=column, chunksize=_CSV_ROWS) as frames:
                for frame in frames:
                    yield first, frame.iloc[:, 0]
                    first += len(frame)


RowSource = InMemory | Npz | Table


def _wanted(names: list[str], columns: Collection[str] | None) -> list[str]:
    """The names that are asked for, in the order in which they are there. Raises `ModelError` for one that is not."""
    for name in columns or ():
        if name not in names:
            raise ModelError(f"the data have no column {name}", key="columns", allowed=names[:50])
    return names if columns is None else [name for name in names if name in columns]


def check_alike(name: str, first: Any, other: Any, path: str | None) -> None:
    """Raise `ModelError` for pieces of a column that would change by being joined, as numbers and strings do."""
    kinds = {piece.dtype.kind for piece in (first, other)} - {"O"}
    integers = [piece for piece in (first, other) if piece.dtype.kind in "iu"]
    rounds = "f" in kinds and any(piece.size and np.abs(piece).max() > _EXACT for piece in integers)
    if rounds or len({"f" if kind in "iu" else kind for kind in kinds}) > 1:
        raise ModelError(
            f"{name} is of type {first.dtype} in some rows and of type {other.dtype} in others; write one type",
            path=path,
            key=f"data.{name}",
        )


def row_sources(source: object, columns: Collection[str] | None = None) -> list[RowSource]:
    """The places in which the rows are, in order."""
    if isinstance(source, str | Path):
        source = [source]
    if not isinstance(source, Sequence):
        return [InMemory(source, columns)]
    if not source:
        raise ModelError("the list of data files is empty; name at least one file", key="data")
    parts: list[RowSource] = []
    for one in source:
        path = str(one) if is_address(one) else Path(str(one))
        if located(path).suffix == ".npz":
            parts.append(Npz(path, columns))
        elif located(path).suffix in (".parquet", ".csv"):
            parts.append(Table(path, columns))
        else:
            raise ModelError(
                f"{located(path).name} cannot be read by rows",
                path=path,
                key="data",
                allowed=(".npz", ".csv", ".parquet"),
            )
    return parts
