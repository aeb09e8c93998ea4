"""Where rows of data are stored: columns in memory, npz, csv and parquet files, read as rows are asked for."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vi_dist.errors import ModelError
from vi_dist.model.data import load_data
from vi_dist.model.storage import is_address, located, readable

# Rows of a CSV file that are held at once.
_CSV_ROWS = 100_000

# What libraries raise for a file that is not what its name says, or that is cut off.
_UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


@contextlib.contextmanager
def _reading(path: str | Path) -> Generator[None]:
    """A file that cannot be read becomes a `ModelError` that names it."""
    try:
        yield
    except ModelError:
        raise
    except _UNREADABLE as error:
        what = f"the file cannot be read as {located(path).suffix[1:]}: {str(error).strip()}"
        raise ModelError(what, path=path, key="data") from error


class InMemory:
    """Columns that are here already."""

    def __init__(self, source: object) -> None:
        self.columns = load_data(source)
        self.name: str | None = None
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


class Npz:
    """An archive of arrays: each is read whole when it is asked for, and let go again."""

    def __init__(self, path: str | Path) -> None:
        self.name, self._path = str(path), path
        # Not by np.load, which takes what is no archive for a pickle and says how to load that.
        with _reading(path), zipfile.ZipFile(readable(path)) as archive:
            self._shapes = {one.removesuffix(".npy"): _shape(archive, one) for one in archive.namelist()}

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

    def __init__(self, path: str | Path) -> None:
        self.name, self._path, self._parquet = str(path), path, located(path).suffix == ".parquet"
        if self._parquet:
            import pyarrow.parquet as parquet

            with _reading(path):
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
        return np.concatenate(kept) if kept else self._nothing(name)

    def _nothing(self, name: str) -> Any:
        with contextlib.closing(self._pieces(name)) as pieces:
            return next(pieces)[1].to_numpy()[:0]

    def _csv(self, **options: Any) -> Any:
        import pandas as pd

        with _reading(self._path):
            return pd.read_csv(readable(self._path), **options)

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


def row_sources(source: object) -> list[RowSource]:
    """The places in which the rows are, in order."""
    if isinstance(source, str | Path):
        source = [source]
    if not isinstance(source, Sequence):
        return [InMemory(source)]
    if not source:
        raise ModelError("the list of data files is empty; name at least one file", key="data")
    parts: list[RowSource] = []
    for one in source:
        path = str(one) if is_address(one) else Path(str(one))
        if located(path).suffix == ".npz":
            parts.append(Npz(path))
        elif located(path).suffix in (".parquet", ".csv"):
            parts.append(Table(path))
        else:
            raise ModelError(
                f"{located(path).name} cannot be read by rows",
                path=path,
                key="data",
                allowed=(".npz", ".csv", ".parquet"),
            )
    return parts
