"""One column of data from whatever holds it: every value is kept, or the column is refused."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np

    Column = Tensor | np.ndarray[Any, Any]
    Array = np.ndarray[Any, Any]

# Strings become an array whose elements are all as wide as the longest.
_MOST_BYTES = 1 << 30
_NUMBERS = "numbers"
_INT64 = 1 << 63


class UnfitValueError(ValueError):
    """A value that no column of data can hold, or the lack of one.

    Args:
        what: follows the column's name in a sentence that says what is wrong and what to do.
        position: of the first such element, empty for a column as a whole.
        missing: how many elements are missing; 0 where something else is wrong.
    """

    def __init__(self, what: str, position: Sequence[int] = (), missing: int = 0) -> None:
        super().__init__(what)
        self.what, self.position, self.missing = what, tuple(position), missing

    def sentence(self, name: object) -> str:
        """What is wrong, of a column of this name."""
        if self.missing:
            more = f" (and {self.missing - 1} more)" if self.missing > 1 else ""
            return f"{name} is missing (NaN){_where(self.position)}{more}; drop or impute these rows"
        return f"{name}{_where(self.position)} {self.what}"


def to_column(value: object) -> Column:
    """Numbers as a CPU tensor, strings, dates and durations as a numpy array.

    Integers become int64; floats keep their precision, but for long doubles, which become float64 where that loses
    nothing. Raises `UnfitValueError` for missing and masked values, and for what neither type holds as it is: complex
    numbers, integers beyond 64 bits, columns of several kinds, times with zones, numbers with units.
    """
    try:
        if isinstance(value, Tensor):
            return _of_tensor(value)
        return _checked(_of_array(_as_array(value)))
    except UnfitValueError:
        raise
    except (ValueError, TypeError, IndexError, OverflowError, MemoryError, RecursionError) as error:
        text = str(error).strip().splitlines()
        raise UnfitValueError(f"is no array: {text[0] if text else type(error).__name__}") from error


def _where(position: Sequence[int]) -> str:
    if len(position) == 1:
        return f" at row {position[0]}"
    return f" at index {[*position]}" if position else ""


def _as_array(value: Any) -> Array:
    """What a container holds, as an array of numpy's, which may be one of objects."""
    import numpy as np

    if isinstance(value, np.ma.MaskedArray):
        _refuse_missing(np.ma.getmaskarray(value))
        return np.ma.getdata(value)
    if isinstance(value, list | tuple):
        return _of_sequence(value)
    if value is None or isinstance(value, dict | set | frozenset):
        raise UnfitValueError(f"holds {type(value).__name__}, not numbers or strings")
    if isinstance(value, str | bytes | int | float | Decimal | Fraction | datetime.date):
        return np.array(value, dtype=object)
    if type(value).__module__.startswith("pandas."):
        missing = getattr(value, "isna", None)
        if missing is not None:
            _refuse_missing(np.asarray(missing()))
        return np.asarray(value)
    _refuse_carried(value)
    return np.asarray(value)


def _refuse_missing(missing: Array) -> None:
    if missing.any():
        position = [int(index) for index in _first(missing)]
        raise UnfitValueError("", position, int(missing.sum()))


def _first(bad: Array) -> list[int]:
    """Position of the first element that is true."""
    import numpy as np

    return [int(one) for one in np.unravel_index(int(bad.argmax()), bad.shape)] if bad.ndim else []


def _refuse_carried(value: Any) -> None:
    """Refuse what an array of an unknown kind says of its numbers and a plain array does not: a mask, a unit."""
    import numpy as np

    mask = getattr(value, "mask", None)
    if isinstance(mask, np.ndarray):
        _refuse_missing(mask)
    attributes = getattr(value, "attrs", None)
    named = attributes.get("units") if isinstance(attributes, dict) else None
    unit = next(
        (one for one in (getattr(value, "unit", None), getattr(value, "units", None), named) if one), None
    )
    if unit is not None:
        raise UnfitValueError(
            f"has the unit {unit}, which plain numbers lose; convert it and pass the numbers alone"
        )


def _of_sequence(value: list[Any] | tuple[Any, ...]) -> Array:
    """Objects in as many dimensions as the lists have, or arrays stacked."""
    import numpy as np

    if value and all(hasattr(one, "__array__") and getattr(one, "ndim", 0) for one in value):
        return _stacked(value)
    if any(isinstance(one, Tensor) for one in value):
        value = [one.item() if isinstance(one, Tensor) and not one.dim() else one for one in value]
    return np.array(value, dtype=object)


def _stacked(rows: Sequence[Any]) -> Array:
    """Arrays of one shape and kind, along a new first axis."""
    import numpy as np

    parts: list[Array] = []
    for number, row in enumerate(rows):
        try:
            part = np.asarray(to_column(row))
        except UnfitValueError as error:
            raise UnfitValueError(error.what, (number, *error.position), error.missing) from error
        if parts and part.shape != parts[0].shape:
            raise UnfitValueError(
                f"has shape {part.shape} where row 0 has {parts[0].shape}; rows must be of one length",
                (number,),
            )
        if parts and _kind_of_array(part) != _kind_of_array(parts[0]):
            raise _mixed(_kind_of_array(part), _kind_of_array(parts[0]), (number,))
        parts.append(part)
    if len({part.dtype.kind for part in parts}) > 1:  # integers and floats
        return np.stack([part.astype(object) for part in parts])
    return np.stack(parts)


def _kind_of_array(array: Array) -> str:
    kind = array.dtype.kind
    return _NUMBERS if kind in "iuf" else {"b": "truths", "U": "strings", "M": "dates"}.get(kind, kind)


def _of_array(array: Array) -> Array:
    """The array with elements of a kind that a column has, each of the same value."""
    import numpy as np

    kind = array.dtype.kind
    if kind == "O":
        return _of_objects(array)
    if kind == "T":
        return _of_objects(array.astype(object))
    if kind == "c":
        raise UnfitValueError("holds complex numbers; pass their real and imaginary parts as two columns")
    if kind == "V":
        fields = f", for example array[{array.dtype.names[0]!r}]" if array.dtype.names else ""
        raise UnfitValueError(f"holds records (type {array.dtype}); pass each field as a column{fields}")
    if kind == "u" and array.size and int(array.max()) >= _INT64:
        raise _too_large(_first(array >= _INT64))
    if kind == "f" and array.dtype.itemsize > 8:
        with np.errstate(over="ignore"):
            rounded = array.astype(np.float64)
        lost = (rounded != array) & ~np.isnan(array)
        if lost.any():
            raise UnfitValueError("has more digits than float64 keeps; round it before", _first(lost))
        return rounded
    return array


def _too_large(position: Sequence[int]) -> UnfitValueError:
    return UnfitValueError("is an integer beyond 64 bits; pass float64 if rounding it does no harm", position)


def _checked(array: Array) -> Column:
    """The array, as a tensor where torch has its type, without missing values."""
    import numpy as np

    if array.dtype.kind in "Mm":
        _refuse_missing(np.isnat(array))
    if array.dtype.kind in "USMm":
        return array
    wanted = np.dtype(np.int64) if array.dtype.kind in "iu" else array.dtype.newbyteorder("=")
    native = np.ascontiguousarray(array.astype(wanted))
    if native.dtype.kind == "f":
        _refuse_missing(np.isnan(native.reshape(array.shape)))
    return torch.as_tensor(native).reshape(array.shape)


def _of_tensor(tensor: Tensor) -> Tensor:
    for odd, what in (
        (
            tensor.requires_grad,
            "requires a gradient, and data are not trained; pass .detach(), or write a @param",
        ),
        (tensor.is_complex(), "holds complex numbers; pass .real and .imag as two columns"),
        (tensor.is_quantized, "is quantised; pass .dequantize()"),
        (tensor.is_nested, "is nested; pass one padded tensor"),
        (tensor.is_meta, "is on the device meta and has no values; pass a tensor that has"),
        (hasattr(tensor, "get_mask"), "is masked; pass the rows that are not masked"),
    ):
        if odd:
            raise UnfitValueError(what)
    dense = tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()
    plain = dense.cpu().resolve_neg()
    if plain.is_floating_point():
        # numpy, which hashes them, has none of the types that are narrower in digits than float16.
        kept = plain if plain.dtype in (torch.float16, torch.float32, torch.float64) else plain.float()
        _refuse_missing(torch.isnan(kept).numpy())
        return kept
    if plain.dtype == torch.bool:
        return plain
    integers = plain.to(torch.int64)
    if plain.dtype == torch.uint64 and bool((integers < 0).any()):
        raise _too_large(_first((integers < 0).numpy()))
    return integers


def _of_objects(array: Array) -> Array:
    """Python objects, all of one kind, as an array of numbers, strings, dates or durations."""
    import numpy as np

    flat = array.reshape(-1).tolist() if array.ndim else [array.item()]
    if not flat:
        return np.zeros(array.shape)
    kinds = {kind: _kind_of(kind) for kind in set(map(type, flat))}
    missing = np.array([_is_missing(one, kinds[type(one)]) for one in flat])
    _refuse_missing(missing.reshape(array.shape))
    if "rows" in kinds.values() and array.ndim:
        return _stacked(array.tolist())
    first = kinds[type(flat[0])]
    for number, one in enumerate(flat):
        kind = kinds[type(one)]
        if kind not in _BUILDERS:
            raise UnfitValueError(
                f"holds {kind}, not numbers or strings{_CURES.get(kind, '')}", _at(array, number)
            )
        if kind != first:
            raise _mixed(kind, first, _at(array, number))
    return _BUILDERS[first](flat, array).reshape(array.shape)


def _at(array: Array, number: int) -> list[int]:
    import numpy as np

    return [int(one) for one in np.unravel_index(number, array.shape)] if array.ndim else []


def _mixed(kind: str, first: str, position: Sequence[int]) -> UnfitValueError:
    return UnfitValueError(f"holds {kind} where rows before it hold {first}; a column has one kind", position)


_CURES = {
    "Period": "; pass .dt.start_time",
    "Interval": "; pass the codes of the intervals (.cat.codes), or their ends as two columns",
    "complex": "; pass the real and the imaginary parts as two columns",
    "complex128": "; pass the real and the imaginary parts as two columns",
}


def _kind_of(cls: type) -> str:
    """What a column of such objects holds, or the type's name."""
    import numpy as np

    if issubclass(cls, list | tuple | np.ndarray | Tensor):
        return "rows"
    for kind, classes in (
        ("truths", (bool, np.bool_)),
        ("durations", (datetime.timedelta, np.timedelta64)),
        (_NUMBERS, (int, float, np.integer, np.floating, Decimal, Fraction)),
        ("strings", (str,)),
        ("bytes", (bytes,)),
        ("dates", (datetime.date, np.datetime64)),
    ):
        if issubclass(cls, classes):
            return kind
    return cls.__name__


def _is_missing(one: Any, kind: str) -> bool:
    if kind == _NUMBERS:
        return bool(one != one)
    if kind in ("dates", "durations"):
        return bool(one != one) or type(one).__name__ == "NaTType"
    return one is None or type(one).__name__ in ("NAType", "NaTType", "MaskedConstant")


def _numbers(flat: list[Any], array: Array) -> Array:
    """int64 where all are integers, else float64, each equal to what it was."""
    import numpy as np

    if all(type(one) is float for one in flat):
        return np.array(flat)
    if all(isinstance(one, int | np.integer) for one in flat):
        for number, one in enumerate(flat):
            if not -_INT64 <= one < _INT64:
                raise _too_large(_at(array, number))
        return np.array([int(one) for one in flat], dtype=np.int64)
    numbers = np.empty(len(flat))
    for number, one in enumerate(flat):
        numbers[number] = float(one) if _fits(one) else math.nan
        if math.isnan(numbers[number]):
            what = f"is {str(one)[:40]}, which float64 does not keep among other floats; round it before"
            raise UnfitValueError(what, _at(array, number))
    return numbers


def _fits(one: Any) -> bool:
    """Whether float64 keeps a number; of a decimal fraction, all digits that were written."""
    try:
        rounded = float(one)
    except OverflowError:
        return False
    if isinstance(one, Decimal):
        return Decimal(repr(rounded)) == one
    return bool(rounded == one)


def _strings(flat: list[Any], array: Array) -> Array:
    import numpy as np

    widest = max(map(len, flat))
    if 4 * widest * len(flat) > _MOST_BYTES:
        gigabytes = 4 * widest * len(flat) / 1e9
        raise UnfitValueError(
            f"has strings of up to {widest} letters, {gigabytes:.1f} GB as a column; encode them as numbers before"
        )
    for number, one in enumerate(flat):
        if one[-1:] in ("\0", b"\0"):
            raise UnfitValueError(
                "ends in a NUL character, which numpy drops; strip it before", _at(array, number)
            )
    return np.array(flat)


def _dates(flat: list[Any], array: Array) -> Array:
    """Dates and times without a zone, or durations, in the finest unit among them."""
    import numpy as np

    for number, one in enumerate(flat):
        if getattr(one, "tzinfo", None) is not None:
            raise UnfitValueError(
                "is a time with a zone, which a column does not keep; convert it to UTC and drop the zone "
                "(.dt.tz_convert('UTC').dt.tz_localize(None))",
                _at(array, number),
            )
    exact = [one.to_numpy() if hasattr(one, "to_numpy") else one for one in flat]
    kind: Any = np.timedelta64 if isinstance(flat[0], datetime.timedelta | np.timedelta64) else np.datetime64
    return np.array([kind(one) for one in exact])


def _truths(flat: list[Any], array: Array) -> Array:
    import numpy as np

    return np.array(flat, dtype=bool)


_BUILDERS: dict[str, Callable[[list[Any], Array], Array]] = {
    _NUMBERS: _numbers,
    "truths": _truths,
    "strings": _strings,
    "bytes": _strings,
    "dates": _dates,
    "durations": _dates,
}
