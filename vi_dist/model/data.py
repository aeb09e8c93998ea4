"""Data as a dict of tensors, whatever they come in; strings, dates and durations stay numpy arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vi_dist.errors import ModelError
from vi_dist.model.conversion import UnfitValueError, to_column
from vi_dist.model.data_files import read_columns
from vi_dist.model.storage import is_address

if TYPE_CHECKING:
    from _collections_abc import dict_items, dict_values

    import numpy as np

    Column = Tensor | np.ndarray[Any, Any]

MOST_COLUMNS = 10_000
"""Columns that are read without being named."""


class Data(dict[str, Any]):
    """Columns by name. One that cannot be used, for a hole or its type, raises its `ModelError` where it is read.

    >>> data = open_data({"y": [1.0, 2.0], "age": [30.0, None]})
    >>> data["y"], "age" in data
    (tensor([1., 2.], dtype=torch.float64), True)
    >>> data["age"]
    Traceback (most recent call last):
    vi_dist.errors.ModelError: data.age: age is missing (NaN) at row 1; drop or impute these rows
    """

    def __getitem__(self, name: str) -> Any:
        column = super().__getitem__(name)
        if isinstance(column, ModelError):
            raise column
        return column

    def get(self, name: str, default: Any = None) -> Any:
        """The column, or the default where there is none of this name; raises as reading it does."""
        return self[name] if name in self else default  # noqa: SIM401 - dict's own would not raise

    def pop(self, name: str, *default: Any) -> Any:
        """The column, which is gone then; raises as reading it does."""
        if name in self:
            self[name]  # raises for a column that cannot be used
        return super().pop(name, *default)

    # Overriding this makes dict(data) and {**data} read columns by __getitem__.
    def __iter__(self) -> Iterator[str]:
        return super().__iter__()

    def items(self) -> dict_items[str, Any]:
        """Names and columns; raises as reading them does."""
        return {name: self[name] for name in self}.items()

    def values(self) -> dict_values[str, Any]:
        """The columns; raises as reading them does."""
        return {name: self[name] for name in self}.values()

    def copy(self) -> Data:
        """Another dict of the same columns."""
        return Data(self.stored())

    def __or__(self, other: Mapping[str, Any]) -> Data:  # type: ignore[override]
        return Data({**self.stored(), **(other.stored() if isinstance(other, Data) else other)})

    def stored(self) -> dict[str, Any]:
        """All columns, the `ModelError` in place of one that cannot be used."""
        return dict(super().items())

    def usable(self) -> dict[str, Column]:
        """The columns that can be used."""
        return {name: column for name, column in super().items() if not isinstance(column, ModelError)}

    def map(self, function: Callable[[str, Column], Any]) -> Data:
        """What a function of name and column gives for every column that can be used; the others stay."""
        usable = {name: function(name, column) for name, column in self.usable().items()}
        return Data({**self.stored(), **usable})

    def __reduce__(self) -> tuple[Any, ...]:
        return Data, (self.stored(),)


def load_data(source: object, base: str | Path | None = None, columns: Collection[str] | None = None) -> Data:
    """What `open_data` gives, when every column can be used.

    >>> load_data({"y": [1.5, 2.5], "name": ["a", "b"]})
    {'y': tensor([1.5000, 2.5000], dtype=torch.float64), 'name': array(['a', 'b'], dtype='<U1')}

    Raises:
        ModelError: as `open_data` does, and for a column that cannot be used.
    """
    data = open_data(source, base, columns)
    data.values()  # raises for a column that cannot be used
    return data


def open_data(source: object, base: str | Path | None = None, columns: Collection[str] | None = None) -> Data:
    """Read a dict of arrays, a DataFrame, or a file, here or at an address, into a dict of CPU tensors.

    Integers become int64, floating-point numbers keep their precision and booleans stay; strings, dates and durations
    stay numpy arrays. A column with missing values, or with values that neither holds as they are, raises `ModelError`
    with its name, row and file when it is read, so that a model need not mind the columns that it leaves alone.

    Args:
        source: a mapping, a pandas DataFrame, or the path of an npz, csv, parquet or json(.gz) file; None is no data.
        base: the directory that a relative path starts from.
        columns: the names of those wanted; all of them where it is None.

    Raises:
        ModelError: what is no data, a name that two columns have or that is no string, one in `columns` that there is
            not, and more than 10,000 columns without `columns`.
    """
    if source is None:
        if columns is not None:
            raise ModelError(
                "there are no data that have columns; name data, or leave columns out", key="columns"
            )
        return Data()
    path: str | Path | None = None
    if isinstance(source, str | Path):
        path = source if is_address(source) else Path(base or ".", source)
        found: Any = read_columns(path, columns)
    else:
        found = source.stored() if isinstance(source, Data) else source
    pairs = _pairs(found, path)
    chosen = _chosen([name for name, _ in pairs], columns, path)
    return Data({name: _column(name, value, path) for name, value in pairs if name in chosen})


def to_device(data: Data, dtype: torch.dtype, device: torch.device | str = "cpu") -> Data:
    """The same data on a device, floating-point columns in the given precision."""

    def moved(_: str, value: Column) -> Column:
        if not isinstance(value, Tensor):
            return value
        return value.to(device, dtype if value.is_floating_point() else value.dtype)

    return data.map(moved)


def digest(data: Data) -> str:
    """sha256 over names, types, shapes and contents, whatever the order; of what cannot be used, over the reason."""
    total = hashlib.sha256()
    stored = data.stored()
    for name in sorted(stored):
        array = stored[name]
        if isinstance(array, ModelError):
            total.update(json.dumps([name, array.message]).encode())
            continue
        if isinstance(array, Tensor):
            array = array.detach().cpu().numpy()
        header = [name, str(array.dtype), list(array.shape)]
        total.update(json.dumps(header).encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _pairs(found: Any, path: str | Path | None) -> list[tuple[str, Any]]:
    """Names and values, every name once."""
    if _is_frame(found):
        pairs = [(name, found.iloc[:, place]) for place, name in enumerate(found.columns)]
    elif isinstance(found, Mapping):
        pairs = [*found.items()]
    else:
        raise ModelError(
            f"data of type {type(found).__name__} cannot be read; pass a dict of arrays, a DataFrame or a path",
            path=path,
            key="data",
        )
    seen: set[object] = set()
    for name, _ in pairs:
        if not isinstance(name, str):
            raise ModelError(f"the column name {name!r} is not a string; rename it", path=path, key="data")
        if name in seen:
            raise ModelError(f"two columns are called {name}; rename one", path=path, key=f"data.{name}")
        seen.add(name)
    return pairs


def _chosen(names: list[str], columns: Collection[str] | None, path: str | Path | None) -> set[str]:
    """The names of the columns that are wanted."""
    if columns is None:
        if len(names) > MOST_COLUMNS:
            raise ModelError(
                f"the data have {len(names)} columns, more than {MOST_COLUMNS}; name those that build reads, for "
                f"example columns: [{names[0]}]",
                path=path,
                key="columns",
            )
        return set(names)
    for name in columns:
        if name not in names:
            raise ModelError(f"the data have no column {name}", path=path, key="columns", allowed=names[:50])
    return set(columns)


def _is_frame(source: object) -> bool:
    # By name, so that pandas need not be there to tell.
    return any(
        f"{cls.__module__}.{cls.__name__}".startswith("pandas.") for cls in type(source).__mro__
    ) and hasattr(source, "columns")


def _column(name: str, value: object, path: str | Path | None) -> Any:
    """The column, or the error that reading it raises."""
    if isinstance(value, ModelError):
        return ModelError(value.message, path=value.path or path, key=value.key)
    try:
        return to_column(value)
    except UnfitValueError as error:
        return ModelError(error.sentence(name), path=path, key=f"data.{name}")
