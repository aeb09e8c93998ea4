"""Walking, counting and drawing the values of one dimension."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from vi_dist.sweep.configuration import Choice
from vi_dist.sweep.dimension import Dimension, Named, Option, Range
from vi_dist.sweep.values import Scalar

_DIGITS = 6


@dataclass(frozen=True)
class Point:
    """One value of a dimension, a choice as it was written, and the key path it came from."""

    value: Choice | Scalar
    key: str


def count(dimension: Dimension) -> int | None:
    """How many values a dimension has; None for infinitely many."""
    total = 0
    for option in dimension:
        size = _size(option)
        if size is None:
            return None
        total += size
    return total


def walk(dimension: Dimension) -> Iterator[Point]:
    """Every value of a finite dimension, in the order written, an entry's last argument fastest."""
    for option in dimension:
        if isinstance(option, Range):
            assert isinstance(option.low, int) and isinstance(option.high, int)
            yield from (Point(value, option.key) for value in range(option.low, option.high + 1))
        elif isinstance(option, Named):
            names = [name for name, _ in option.arguments]
            for points in product(*(list(walk(inner)) for _, inner in option.arguments)):
                yield Point(_choice(option.name, names, points), option.key)
        else:
            yield Point(option.value, option.key)


def draw(dimension: Dimension, seed: int, number: int, name: str) -> Point:
    """Draw `number` of a dimension, a function of its arguments alone: no other dimension can move it."""
    option = dimension[int(_uniform(seed, number, name) * len(dimension))]
    if isinstance(option, Range):
        return Point(_between(option, _uniform(seed, number, f"{name}.value")), option.key)
    if not isinstance(option, Named):
        return Point(option.value, option.key)
    names = [inner for inner, _ in option.arguments]
    points = [
        draw(values, seed, number, f"{name}.{option.name}.{inner}") for inner, values in option.arguments
    ]
    return Point(_choice(option.name, names, points), option.key)


def _size(option: Option) -> int | None:
    """How many values an option has; None for infinitely many."""
    if isinstance(option, Range):
        whole = isinstance(option.low, int) and isinstance(option.high, int)
        return int(option.high - option.low + 1) if whole else None
    if not isinstance(option, Named):
        return 1
    sizes = [count(inner) for _, inner in option.arguments]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def _choice(name: str, names: list[str], points: tuple[Point, ...] | list[Point]) -> Choice:
    """An entry with one value for each of its written arguments."""
    arguments = []
    for argument, point in zip(names, points, strict=True):
        assert not isinstance(point.value, Choice)
        arguments.append((argument, point.value))
    return Choice(name, tuple(arguments))


def _uniform(seed: int, number: int, name: str) -> float:
    """A number in [0, 1), the same on every machine and in every Python."""
    digest = hashlib.sha256(f"{seed}/{number}/{name}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _between(found: Range, uniform: float) -> int | float:
    """The value of a range at a fraction of its width."""
    low, high = found.low, found.high
    whole = isinstance(low, int) and isinstance(high, int)
    end = high + 1 if whole else high
    if found.log:
        value = math.exp(math.log(low) + uniform * (math.log(end) - math.log(low)))
    else:
        value = low + uniform * (end - low)
    if whole:
        return min(max(math.floor(value), int(low)), int(high))
    # Rounded, so that a table's number can be typed again and libm's last bit cannot move a sweep.
    if high - low > 1e-3 * max(abs(low), abs(high)):
        value = float(f"{value:.{_DIGITS}g}")
    return min(max(value, low), high)
