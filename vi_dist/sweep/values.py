"""Reading one value of a spec: its type, its bounds, how it is shown, and what was probably meant."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from os import PathLike, fspath
from typing import Any, cast

from vi_dist.errors import SpecError
from vi_dist.redaction import redacted
from vi_dist.vi.table import Argument

Scalar = bool | int | float | str

# The closed bound that says "greater than 0".
POSITIVE = math.ulp(0.0)

# YAML 1.1 reads 1e-3 (no dot, or no sign in the exponent) as text.
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)")
_SHOWN = 60
MOST_VALUES = 400_000
"""Values in a spec at most, what stands in two places counted twice."""
MOST_LEVELS = 32
"""Lists and mappings inside one another at most."""
MOST_WHOLE = 2**63 - 1
"""The largest whole number that tables hold."""

# What people write for our words and no spelling distance would find.
_ALIASES = {
    "lr": "learning_rate",
    "step_size": "learning_rate",
    "epochs": "steps",
    "iterations": "steps",
    "num_steps": "steps",
    "samples": "num_samples",
    "family": "guide",
    "loss": "divergence",
    "trials": "configurations",
    "min": "low",
    "max": "high",
    "advi": "mean_field",
    "map": "delta",
    "elbo": "kl_reverse",
    "fixed": "constant",
}


def plain(value: object) -> Any:
    """`value` as YAML would hold it: dicts with text keys, lists for arrays and tuples, text for paths.

    Raises:
        SpecError: more values or levels than a spec has, or two keys that are the same text.
    """
    return _Plain().of(value, 0)


class _Plain:
    """Makes plain data and counts the values."""

    def __init__(self) -> None:
        self._left = MOST_VALUES

    def of(self, value: object, depth: int) -> Any:
        """`value` as plain data, at this level of the whole."""
        self._left -= 1 + self._length(value)
        if self._left < 0:
            raise SpecError(f"more than {MOST_VALUES:,} values; a spec has fewer")
        if depth > MOST_LEVELS:
            raise SpecError(f"more than {MOST_LEVELS} levels inside one another; a spec has six")
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, list | tuple | range):
            return [self.of(item, depth + 1) for item in value]
        if isinstance(value, PathLike):
            return self._scalar(fspath(value))
        as_list = getattr(value, "tolist", None)
        return self.of(as_list(), depth + 1) if callable(as_list) else self._scalar(value)

    def _length(self, value: object) -> int:
        """How many values stand in a range or an array, neither of which lists them yet."""
        if isinstance(value, range):
            return max(0, -((value.start - value.stop) // value.step))
        size = getattr(value, "size", 0)
        return size if isinstance(size, int) and not isinstance(value, Mapping | str) else 0

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in value.items():
            name = show_key(key)
            if name in found:
                raise SpecError(f"two keys read {show(name)}; keep one", key=name)
            found[name] = self.of(item, depth + 1)
        return found

    @staticmethod
    def _scalar(value: object) -> object:
        """A value of one of Python's own types in place of one of a class made from it (an enumeration's member)."""
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        return int(value) if isinstance(value, int) else float(value)


def show_key(key: object) -> str:
    """A mapping's key as text; YAML's booleans in the word it uses itself."""
    if isinstance(key, str):
        return str.__str__(key)
    return str(key).lower() if isinstance(key, bool) else show(key)


def show(value: object) -> str:
    """`value` as a message quotes it: text in quotes, booleans in YAML's words, long ones cut."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        value = redacted(value)  # before it is cut, after which a password may look like a port
    if isinstance(value, str | bytes):
        value = value[:_SHOWN]
    try:
        text = redacted(repr(value))
    except Exception:  # too many digits, too many levels, or a class's own fault
        return f"a value of type {type(value).__name__} that is too large to show"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def big(number: int) -> str:
    """A whole number as a message shows it, of many digits only how many."""
    return (
        str(number)
        if number < 10**15
        else f"about 1e{len(str(number)) - 1}"
        if number < 10**300
        else "over 1e300"
    )


def near(name: str, allowed: Iterable[str]) -> tuple[str, ...]:
    """The allowed names that `name` was probably meant to be, best first; empty if none is close."""
    names = tuple(allowed)
    word = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if _ALIASES.get(word) in names:
        return (_ALIASES[word],)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    starts = [other for other in names if len(word) > 1 and other.startswith(word)]
    return tuple(close or starts[:3])


def unknown(noun: str, name: object, allowed: Iterable[str], key: str, cure: str = "") -> SpecError:
    """The error for a name that is not in a table: a cure or the nearest names, and the whole list."""
    names = tuple(allowed)
    message = f"unknown {noun} {show(name)}"
    if cure:
        return SpecError(f"{message}; {cure}", key=key, allowed=names)
    meant = near(str(name), names)
    if meant:
        message += f"; did you mean {' or '.join(meant)}?"
    return SpecError(message, key=key, allowed=names)


def expected(argument: Argument) -> str:
    """What an argument accepts, in words: ``a whole number, at least 1``."""
    nouns = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    text = nouns.get(argument.kind, argument.kind.__name__)
    low = None if argument.low is None else _bound(argument.low, -math.inf, ("at least", "greater than"))
    high = None if argument.high is None else _bound(argument.high, math.inf, ("at most", "less than"))
    limits = " and ".join(limit for limit in (low, high) if limit)
    return f"{text}, {limits}" if limits else text


def parse_value(value: object, argument: Argument, key: str | None = None) -> Scalar:
    """`value` as `argument` wants it.

    Text such as ``1e-3`` counts as the number it looks like, since YAML 1.1 reads it as text, and a whole
    float such as ``2e3`` as a whole number.

    Raises:
        SpecError: wrong type, not finite, not whole, out of bounds.
    """
    if argument.kind not in (int, float):
        if isinstance(value, argument.kind):
            return cast(Scalar, value)
        raise _wrong(value, _type_cure(value, argument.kind), argument, key)
    number = as_number(value)
    if number is None:
        raise _wrong(value, _type_cure(value, argument.kind), argument, key)
    if not (isinstance(number, int) or math.isfinite(number)):
        raise _wrong(value, "is not a finite number", argument, key)
    if argument.kind is int and number != int(number):
        raise _wrong(value, "is not a whole number", argument, key)
    if argument.low is not None and number < argument.low:
        raise _wrong(value, "is too small", argument, key)
    if argument.high is not None and number > argument.high:
        raise _wrong(value, "is too large", argument, key)
    if (argument.kind is int or isinstance(number, int)) and abs(number) > MOST_WHOLE:
        raise _wrong(value, "has too many digits", argument, key)
    return int(number) if argument.kind is int else float(number)


def as_number(value: object) -> int | float | None:
    """The number that `value` is, or None; text is one only in exponent form (``1e-3``), booleans never."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return float(value) if _EXPONENT.fullmatch(value.strip()) else None
    if isinstance(value, Integral):
        return int(value)
    try:
        return float(value) if isinstance(value, Real) else None
    except OverflowError:
        return math.inf


def short_number(value: Scalar, digits: int = 3) -> str:
    """A number with up to `digits` significant digits, as names show it (``0.00316``, ``1e-5``)."""
    if not isinstance(value, float):
        return show(value) if isinstance(value, bool) else str(value)
    text = repr(value) if digits >= 17 else f"{value:.{digits}g}"
    return re.sub(r"\.0$", "", re.sub(r"e([-+])0*", lambda found: "e" + found[1].replace("+", ""), text))


def _wrong(value: object, reason: str, argument: Argument, key: str | None) -> SpecError:
    """The error for a value that its argument does not take."""
    return SpecError(f"{show(value)} {reason}", key=key, allowed=(expected(argument),))


def _type_cure(value: object, kind: type) -> str:
    """Why a value has the wrong type, and what to write instead."""
    if isinstance(value, bool):
        cure = "; put it in quotes if it is text" if kind is str else ""
        return f"is a truth value (YAML reads yes, no, on and off as true and false){cure}"
    if value is None:
        return "stands here; give a value, or delete the key"
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return "is text; remove the quotes"
    if isinstance(value, list | dict):
        return f"is a {'list' if isinstance(value, list) else 'mapping'}, and one value belongs here"
    if kind is str:
        return "is not text; put it in quotes"
    return f"is not {'true or false' if kind is bool else 'a number'}"


def _bound(limit: float, outwards: float, words: tuple[str, str]) -> str:
    """A bound in words; the float next to a rounder number is how a closed bound says "greater than"."""
    rounder = math.nextafter(limit, outwards)
    if len(repr(rounder)) < len(repr(float(limit))):
        return f"{words[1]} {short_number(rounder, 17)}"
    return f"{words[0]} {short_number(limit, 17)}"
