"""Data as a dict of tensors, whatever they come in; strings stay numpy arrays."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from torch import Tensor

from vi_dist.errors import ModelError
from vi_dist.model.storage import is_address, located, opened

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Column = Tensor | np.ndarray[Any, Any]
    Data = dict[str, Column]


def load_data(source: object, base: str | Path | None = None) -> Data:
    """Read a dict of arrays, a DataFrame, or a file, here or at an address, into a dict of CPU tensors.

    Integers become int64, floating-point numbers keep their precision and booleans stay; strings and dates stay numpy
    arrays. Raises `ModelError` with the column, the row and the file for missing values and for what is no array.

    >>> load_data({"y": [1.5, 2.5], "name": ["a", "b"]})
    {'y': tensor([1.5000, 2.5000], dtype=torch.float64), 'name': array(['a', 'b'], dtype='<U1')}

    Args:
        source: a mapping, a pandas DataFrame, or the path of an npz, csv, parquet or json(.gz) file; None is no data.
        base: the directory that a relative path starts from.
    """
    if source is None:
        return {}
    path: str | Path | None = None
    if isinstance(source, str | Path):
        path = source if is_address(source) else Path(base or ".", source)
    columns: Any = source if path is None else _read(path)
    if _is_frame(columns):
        columns = {name: _from_series(name, columns[name], path) for name in columns.columns}
    if not isinstance(columns, Mapping):
        raise ModelError(
            f"data of type {type(source).__name__} cannot be read; pass a dict of arrays, a DataFrame or a path",
            path=path,
            key="data",
        )
    return {_name(name, path): _column(name, value, path) for name, value in columns.items()}


def to_device(data: Data, dtype: torch.dtype, device: torch.device | str = "cpu") -> Data:
    """The same data on a device, floating-point columns in the given precision."""
    return {
        name: value.to(device, dtype if value.is_floating_point() else value.dtype)
        if isinstance(value, Tensor)
        else value
        for name, value in data.items()
    }


def digest(data: Data) -> str:
    """sha256 over names, types, shapes and contents, whatever the order of the columns."""
    total = hashlib.sha256()
    for name in sorted(data):
        array = data[name]
        if isinstance(array, Tensor):
            array = array.detach().cpu().numpy()
        header = [name, str(array.dtype), list(array.shape)]
        total.update(json.dumps(header).encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _read(path: str | Path) -> Any:
    """The content of a data file: a mapping or a DataFrame."""
    name = located(path).name
    suffix = ".json.gz" if name.endswith(".json.gz") else located(path).suffix
    if suffix not in _READERS:
        raise ModelError(f"{name} is no data file that can be read", path=path, key="data", allowed=_READERS)
    stream = opened(path)
    try:
        with stream:
            return _READERS[suffix](stream)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the file cannot be read as {suffix[1:]}: {error}", path=path, key="data"
        ) from error


def _read_npz(stream: BinaryIO) -> dict[str, Any]:
    import numpy as np

    with np.load(stream, allow_pickle=False) as archive:
        return dict(archive)


def _read_csv(stream: BinaryIO) -> Any:
    import pandas as pd

    return pd.read_csv(stream)


def _read_parquet(stream: BinaryIO) -> Any:
    import pandas as pd

    return pd.read_parquet(stream)


def _read_json(stream: BinaryIO) -> Any:
    return json.loads(stream.read())


def _read_packed_json(stream: BinaryIO) -> Any:
    return json.loads(gzip.decompress(stream.read()))


_READERS: dict[str, Callable[[BinaryIO], Any]] = {
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".json": _read_json,
    ".json.gz": _read_packed_json,
}


def _is_frame(source: object) -> bool:
    # By name, so that pandas need not be there to tell.
    return any(
        f"{cls.__module__}.{cls.__name__}".startswith("pandas.") for cls in type(source).__mro__
    ) and hasattr(source, "columns")


def _from_series(name: object, series: pd.Series[Any], path: str | Path | None) -> Any:
    import numpy as np

    missing = series.isna().to_numpy()
    if missing.any():
        raise _missing(name, [int(missing.argmax())], int(missing.sum()), path)
    kind = getattr(series.dtype, "kind", "O")
    values = series.to_numpy()
    return (
        values
        if kind in "biufM" and values.dtype.kind != "O"
        else _strings_or_numbers(np.asarray(series.tolist()))
    )


def _strings_or_numbers(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array if array.dtype.kind in "biufM" else array.astype(str)


def _name(name: object, path: str | Path | None) -> str:
    if not isinstance(name, str):
        raise ModelError(f"the column name {name!r} is not a string; rename it", path=path, key="data")
    return name


def _column(name: object, value: object, path: str | Path | None) -> Column:
    import numpy as np

    key = f"data.{name}"
    if isinstance(value, Tensor):
        tensor = value.detach()
    else:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise ModelError(f"{name} is no array: {error}", path=path, key=key) from error
        if array.dtype.kind in "USM":
            return array
        if array.dtype.kind not in "biuf":
            raise ModelError(
                f"{name} holds {type(value).__name__} of type {array.dtype}, not numbers or strings",
                path=path,
                key=key,
            )
        tensor = torch.as_tensor(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))))
        tensor = tensor.reshape(array.shape)
    if not tensor.is_floating_point():
        return tensor if tensor.dtype == torch.bool else tensor.to(torch.int64)
    bad = torch.isnan(tensor)
    if bool(bad.any()):
        position = bad.nonzero()[0].tolist() if bad.dim() else []
        raise _missing(name, position, int(bad.sum()), path)
    return tensor


def _missing(name: object, position: list[int], count: int, path: str | Path | None) -> ModelError:
    where = f" at row {position[0]}" if len(position) == 1 else f" at index {position}" if position else ""
    more = f" (and {count - 1} more)" if count > 1 else ""
    return ModelError(
        f"{name} is missing (NaN){where}{more}; drop or impute these rows", path=path, key=f"data.{name}"
    )
