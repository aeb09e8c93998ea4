"""Reading the space of a spec: its shape, types and ranges, without the tables that names come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from vi_dist.errors import SpecError
from vi_dist.sweep.dimension import DIMENSIONS, Dimension, Item, Named, Range, join
from vi_dist.sweep.values import Scalar, as_number, expected, parse_value, plain, show, unknown
from vi_dist.vi.table import Argument

RANGE_KEYS = ("low", "high", "log")
_ENTRY = "a name, or {name: {argument: value}}"
_ARGUMENT = "a value, a list of values or {low, high, log}"

_Option = TypeVar("_Option", Item, Named)


def parse_space(raw: object, prefix: str = "space") -> dict[str, Dimension]:
    """The dimensions of a space in their fixed order, whatever the order they were written in.

    Raises:
        SpecError: not a mapping, empty, an unknown dimension, a value that no dimension takes.
    """
    raw = plain(raw)
    if not isinstance(raw, dict | None):
        cure = "write for example space: {guide: [mean_field, full_rank]}"
        raise SpecError(f"{show(raw)} is not a mapping of dimensions; {cure}", key=prefix, allowed=DIMENSIONS)
    if not raw:
        raise SpecError("the space is empty; name what to compare", key=prefix, allowed=DIMENSIONS)
    for name in raw:
        if name not in DIMENSIONS:
            raise unknown("dimension", name, DIMENSIONS, join(prefix, name))
    return {name: parse_dimension(name, raw[name], join(prefix, name)) for name in DIMENSIONS if name in raw}


def parse_dimension(name: str, raw: object, key: str) -> Dimension:
    """What was written for one dimension: one value, a list of values, or a range."""
    argument = DIMENSIONS[name]
    if argument is None:
        return _distinct([parse_named(item, place) for item, place in _places(raw, key, _ENTRY)])
    if isinstance(raw, dict):
        return (fit_range(parse_range(raw, key), argument),)
    places = _places(raw, key, expected(argument))
    return _distinct([Item(parse_value(item, argument, place), place) for item, place in places])


def parse_named(raw: object, key: str) -> Named:
    """``mean_field`` or ``{low_rank: {rank: 4}}``, whose arguments may be lists or ranges themselves.

    Raises:
        SpecError: anything else, with the spelling that was probably meant.
    """
    if isinstance(raw, str) and raw.strip():
        return Named(raw.strip(), (), key)
    if not isinstance(raw, dict) or not raw:
        raise SpecError(f"{show(raw)} is not an entry", key=key, allowed=(_ENTRY,))
    if set(raw) & {"low", "high"}:
        raise SpecError("a range is for numbers; list the names", key=key, allowed=(_ENTRY,))
    if len(raw) > 1:
        raise SpecError(_several(raw), key=key, allowed=(_ENTRY,))
    ((name, arguments),) = raw.items()
    place = join(key, name)
    if arguments is None:
        return Named(name, (), key)
    if not isinstance(arguments, dict):
        cure = f"write {{{name}: {{argument: {show(arguments)}}}}}"
        raise SpecError(f"{show(arguments)} lacks its argument's name; {cure}", key=place, allowed=(_ENTRY,))
    parsed = ((inner, _argument(arguments[inner], join(place, inner))) for inner in sorted(arguments))
    return Named(name, tuple(parsed), key)


def parse_range(raw: Mapping[str, Any], key: str) -> Range:
    """``{low: 0.001, high: 0.1, log: true}``.

    Raises:
        SpecError: an unknown or missing key, no number, ``low >= high``, a logarithm of what is not positive.
    """
    for name in raw:
        if name not in RANGE_KEYS:
            raise unknown("key of a range", name, RANGE_KEYS, join(key, name))
    for name in ("low", "high"):
        if name not in raw:
            raise SpecError(f"the range has no {name}", key=join(key, name), allowed=RANGE_KEYS)
    low, high = (_end(raw[name], join(key, name)) for name in ("low", "high"))
    log = bool(parse_value(raw.get("log", False), Argument(bool), join(key, "log")))
    if low >= high:
        raise SpecError(f"low is {show(low)} and high is {show(high)}", key=key, allowed=("low < high",))
    if log and low <= 0:
        reason = f"a log range cannot start at {show(low)}; give a positive low, or log: false"
        raise SpecError(reason, key=join(key, "low"), allowed=("a number, greater than 0",))
    return Range(low, high, log, key)


def fit_range(found: Range, argument: Argument) -> Range:
    """The range with both ends as `argument` wants them.

    Raises:
        SpecError: an end out of the argument's bounds, or an argument that is no number.
    """
    if argument.kind not in (int, float):
        reason = "a range is for numbers; list the values"
        raise SpecError(reason, key=found.key, allowed=(expected(argument),))
    low = parse_value(found.low, argument, join(found.key, "low"))
    high = parse_value(found.high, argument, join(found.key, "high"))
    assert not isinstance(low, str) and not isinstance(high, str)
    return Range(low, high, found.log, found.key)


def _argument(raw: object, key: str) -> Dimension:
    """What was written for one argument of an entry; its type is checked when the table is at hand."""
    if isinstance(raw, dict):
        return (parse_range(raw, key),)
    if (groups := _groups(raw)) is not None:
        return (Item(groups, key),)
    items = []
    for item, place in _places(raw, key, _ARGUMENT):
        item = item if (groups := _groups(item)) is None else groups
        if not isinstance(item, Scalar):
            raise SpecError(f"{show(item)} is not one value", key=place, allowed=(_ARGUMENT,))
        items.append(Item(item, place))
    return _distinct(items)


def _groups(raw: object) -> str | None:
    """Groups of names as one text, ``[[mu, tau], [theta]]`` as ``mu + tau | theta``; None for anything else."""
    if not isinstance(raw, list) or not raw:
        return None
    named = all(isinstance(group, list) and group and all(isinstance(n, str) for n in group) for group in raw)
    return " | ".join(" + ".join(group) for group in raw) if named else None


def _places(raw: object, key: str, allowed: str) -> list[tuple[object, str]]:
    """The values of a list with their key paths, or the one value that stands for itself.

    Raises:
        SpecError: nothing, an empty list, a range inside a list.
    """
    if raw is None or raw == []:
        what = "nothing stands here" if raw is None else "the list is empty"
        raise SpecError(f"{what}; give at least one value, or delete the key", key=key, allowed=(allowed,))
    if not isinstance(raw, list):
        return [(raw, key)]
    places = [(item, f"{key}[{index}]") for index, item in enumerate(raw)]
    for item, place in places:
        if isinstance(item, dict) and {"low", "high"} <= set(item):
            raise SpecError("a range stands alone, not in a list", key=place, allowed=(allowed,))
    return places


def _distinct(options: list[_Option]) -> tuple[_Option, ...]:
    """The options, of which no two may be equal."""
    first: dict[_Option, str] = {}
    for option in options:
        if option in first:
            raise SpecError(f"the same as {first[option]}; delete one of the two", key=option.key)
        first[option] = option.key
    return tuple(options)


def _end(value: object, key: str) -> int | float:
    """One end of a range, whole where it was written whole."""
    found = parse_value(value, Argument(int if isinstance(as_number(value), int) else float), key)
    assert not isinstance(found, str)
    return found


def _several(raw: Mapping[str, Any]) -> str:
    """What is wrong with a mapping of several keys where one entry belongs."""
    name, *others = raw
    if raw[name] is None:
        inner = ", ".join(f"{other}: {show(raw[other])}" for other in others)
        return f"{', '.join(others)} stands beside {name}, not inside it; write {{{name}: {{{inner}}}}}"
    return f"one entry has one name, and here are {', '.join(raw)}; give each an item of the list"
