"""Data files: their columns as numpy, pandas or json reads them, none changed on the way."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, BinaryIO

from vi_dist.errors import ModelError
from vi_dist.model.storage import located, opened

UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    RecursionError,
    NotImplementedError,
    csv.Error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What libraries raise for a file that is not what its name says, or that is cut off."""

Columns = Collection[str] | None
# The numbers that float64 may not hold, of which a file may say more than a table in float64 shows.
_LARGE = 2.0**53


def read_columns(path: str | Path, columns: Columns = None) -> Any:
    """The content of a data file, a mapping or a DataFrame, of those columns at least that are asked for.

    Raises `ModelError`, naming the file, where it cannot be read as what its name says.
    """
    name = located(path).name
    suffix = ".json.gz" if name.endswith(".json.gz") else located(path).suffix
    if suffix not in _READERS:
        raise ModelError(f"{name} is no data file that can be read", path=path, key="data", allowed=_READERS)
    stream = opened(path)
    try:
        with stream:
            return _READERS[suffix](stream, columns)
    except ModelError as error:
        raise ModelError(error.message, path=path, key=error.key or "data") from error
    except UNREADABLE as error:
        text = str(error).strip().splitlines()
        what = text[0] if text else type(error).__name__
        raise ModelError(f"the file cannot be read as {suffix[1:]}: {what}", path=path, key="data") from error


def once(names: Collection[str]) -> None:
    """Raise `ModelError` for a name that two columns have."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ModelError(f"two columns are called {name}; rename one", key=f"data.{name}")
        seen.add(name)


def read_csv(source: Any, **options: Any) -> Any:
    """`pandas.read_csv` that finds one type for a whole column."""
    import pandas as pd

    return pd.read_csv(source, low_memory=False, **options)


def check_header(stream: BinaryIO) -> list[str]:
    """The names in the first row of a csv file, from whose beginning the stream then reads again.

    Raises `ModelError` for a name that two columns have, which pandas would change, and for a first row of data that
    has more fields than the header, whose first one pandas would leave out.
    """
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    rows = (row for row in csv.reader(text) if row)
    header, first = next(rows, []), next(rows, [])
    text.detach()
    stream.seek(0)
    if not header:
        raise ValueError("there is no row of names")
    once(header)
    if len(first) > len(header):
        raise ModelError(
            f"the first row has {len(first)} fields and the header {len(header)} names; name every column",
            key="data",
        )
    return header


def _npz(stream: BinaryIO, columns: Columns) -> dict[str, Any]:
    import numpy as np

    # Not by np.load, which takes what is no archive for a pickle and says how to load that.
    with zipfile.ZipFile(stream) as archive:
        names = [one.removesuffix(".npy") for one in archive.namelist()]
    once(names)
    stream.seek(0)
    found: dict[str, Any] = {}
    with np.load(stream, allow_pickle=False) as arrays:
        for name in names:
            if columns is None or name in columns:
                try:
                    found[name] = arrays[name]
                except UNREADABLE as error:
                    found[name] = ModelError(f"{name} cannot be read as npz: {error}", key=f"data.{name}")
            else:
                found[name] = None
    return found


def _csv(stream: BinaryIO, columns: Columns) -> Any:
    import pandas as pd

    header = check_header(stream)
    unknown = [name for name in columns or () if name not in header]
    if unknown or (columns is None and len(header) > 10_000):
        return dict.fromkeys(header)  # refused by its names
    frame = read_csv(stream, usecols=None if columns is None else [*columns])
    found: dict[str, Any] = {str(name): frame[name] for name in frame.columns}
    for name, column in found.items():
        if pd.api.types.is_float_dtype(column.dtype) and bool((column.abs() >= _LARGE).any()):
            stream.seek(0)
            written = read_csv(stream, usecols=[name], dtype=str)[name]
            found[name] = _as_written(name, column, written)
    return found


def _as_written(name: str, column: Any, written: Any) -> Any:
    """A column of floats, or an error where a number in the file is not the one in the column."""
    for row, (number, text) in enumerate(zip(column, written, strict=True)):
        digits = isinstance(text, str) and re.fullmatch(r"[+-]?[0-9]+", text.strip())
        if digits and (len(text) > 400 or int(text) != number):
            return ModelError(
                f"{name} at row {row} is {text[:40]}, which float64 does not keep among other floats; round it before",
                key=f"data.{name}",
            )
        if number in (float("inf"), float("-inf")) and re.search("[0-9]", str(text)):
            return ModelError(
                f"{name} at row {row} is {text[:40]}, beyond what float64 holds", key=f"data.{name}"
            )
    return column


def _parquet(stream: BinaryIO, columns: Columns) -> Any:
    import pandas as pd
    import pyarrow.parquet as parquet

    names = parquet.ParquetFile(stream).schema_arrow.names
    once(names)
    stream.seek(0)
    if any(name not in names for name in columns or ()) or (columns is None and len(names) > 10_000):
        return dict.fromkeys(names)  # refused by its names
    return pd.read_parquet(stream, columns=None if columns is None else [*columns])


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    once([name for name, _ in pairs])
    return dict(pairs)


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ModelError(f"the number {text[:40]} is beyond what float64 holds", key="data")
    return number


def _json(stream: BinaryIO, columns: Columns) -> Any:
    return json.loads(stream.read(), object_pairs_hook=_unique, parse_float=_finite)


def _packed_json(stream: BinaryIO, columns: Columns) -> Any:
    return _json(io.BytesIO(gzip.decompress(stream.read())), columns)


_READERS: dict[str, Callable[[BinaryIO, Columns], Any]] = {
    ".npz": _npz,
    ".csv": _csv,
    ".parquet": _parquet,
    ".json": _json,
    ".json.gz": _packed_json,
}
