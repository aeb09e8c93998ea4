"""Walking, counting and choosing the values of one dimension."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Protocol

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


class Chooser(Protocol):
    """Chooses one point of a space, a question at a time; each question has a name of its own."""

    def option(self, name: str, count: int) -> int:
        """One of `count` options, from 0."""

    def number(self, name: str, found: Range) -> int | float:
        """A number of a range."""


class Uniform:
    """Chooses by a function from a question's name to [0, 1), evenly; `chosen` keeps the answers."""

    def __init__(self, uniform: Callable[[str], float]) -> None:
        self._uniform = uniform
        self.chosen: dict[str, int | float] = {}

    def option(self, name: str, count: int) -> int:
        self.chosen[name] = found = int(self._uniform(name) * count)
        return found

    def number(self, name: str, found: Range) -> int | float:
        self.chosen[name] = value = _between(found, self._uniform(name))
        return value


def choose(dimension: Dimension, chooser: Chooser, name: str) -> Point:
    """One point of a dimension; only the arguments of the option that was chosen are asked for."""
    option = dimension[chooser.option(name, len(dimension)) if len(dimension) > 1 else 0]
    if isinstance(option, Range):
        return Point(chooser.number(f"{name}.value", option), option.key)
    if not isinstance(option, Named):
        return Point(option.value, option.key)
    names = [inner for inner, _ in option.arguments]
    points = [choose(values, chooser, f"{name}.{option.name}.{inner}") for inner, values in option.arguments]
    return Point(_choice(option.name, names, points), option.key)


def questions(dimension: Dimension, name: str) -> Iterator[str]:
    """The names of all questions that `choose` may ask of a dimension."""
    if len(dimension) > 1:
        yield name
    for option in dimension:
        if isinstance(option, Range):
            yield f"{name}.value"
        elif isinstance(option, Named):
            for inner, values in option.arguments:
                yield from questions(values, f"{name}.{option.name}.{inner}")


def corners(dimension: Dimension) -> Iterator[Point]:
    """Every option of a dimension with its arguments at all their values, of ranges at both ends."""
    for option in dimension:
        if isinstance(option, Range):
            yield from (Point(value, option.key) for value in (option.low, option.high))
        elif isinstance(option, Named):
            names = [name for name, _ in option.arguments]
            for points in product(*(list(corners(inner)) for _, inner in option.arguments)):
                yield Point(_choice(option.name, names, points), option.key)
        else:
            yield Point(option.value, option.key)


def corner_count(dimension: Dimension) -> int:
    """How many points `corners` gives."""
    total = 0
    for option in dimension:
        if isinstance(option, Named):
            total += math.prod(corner_count(inner) for _, inner in option.arguments)
        else:
            total += 2 if isinstance(option, Range) else 1
    return total


def by_draw(seed: int, number: int) -> Uniform:
    """The chooser of draw `number`: every answer depends on its question alone, so no other dimension can move it."""
    return Uniform(lambda name: _uniform(seed, number, name))


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
    return min(max(math.floor(value), int(low)), int(high)) if whole else rounded(value, found)


def rounded(value: float, found: Range) -> float:
    """A number of a range as short as can be, so that a table's number can be typed again and libm's last bit cannot
    move a sweep."""
    low, high = found.low, found.high
    if high - low > 1e-3 * max(abs(low), abs(high)):
        value = float(f"{value:.{_DIGITS}g}")
    return min(max(value, low), high)
