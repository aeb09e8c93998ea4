"""The plan: which configurations step together. It depends on the list of configurations alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vi_dist.sweep.configuration import Choice, Configuration

WIDEST, WIDEST_ON_GPU = 80, 1024
"""Columns of an ``auto`` pack at most. On a CPU a column costs hardly less beyond, and workers need packs to share; a
GPU takes a thousand columns in less than twice the time of 64."""
_SMALL, _EVERY = (1, 8), 16


@dataclass(frozen=True)
class Pack:
    """Configurations (by their place in the sweep's list) that share one program of `width` columns."""

    index: int
    width: int
    configurations: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``plan.json``."""
        return {"index": self.index, "width": self.width, "configurations": list(self.configurations)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Pack:
        """The pack that `to_dict` wrote."""
        return cls(data["index"], data["width"], tuple(data["configurations"]))


def plan(
    configurations: Sequence[Configuration],
    pack_size: int = WIDEST,
    *,
    first_place: int = 0,
    first_index: int = 0,
) -> list[Pack]:
    """Packs of configurations with one program, at most `pack_size` each.

    `first_place` is the place of the first configuration in the sweep's list, `first_index` the first pack's number.

    Programs come in order of first appearance and configurations keep their order, so that configurations of
    another program, appended, change no pack. All packs of a program have one width, the last one too: a program of
    another width would have to be compiled for it. So a program's packs are as many as needed and of even size: 129
    configurations are 65 and 64 in 80 columns, where 64, 64 and 1 in 64 would step half as many columns for nothing.
    """
    programs: dict[Program, list[int]] = defaultdict(list)
    for place, configuration in enumerate(configurations, start=first_place):
        programs[program(configuration)].append(place)
    chunks = []
    for places in programs.values():
        each = _even(len(places), pack_size)
        chunks += [(width_class(each), places[start : start + each]) for start in range(0, len(places), each)]
    return [
        Pack(index, width, tuple(chunk)) for index, (width, chunk) in enumerate(chunks, start=first_index)
    ]


Program = tuple[Choice, str, int, str]


def program(configuration: Configuration) -> Program:
    """What a compiled step depends on: guide with its arguments, kind of optimizer, samples per step, dtype.

    Everything else is a column of numbers.
    """
    return configuration.guide, configuration.optimizer.name, configuration.num_samples, configuration.dtype


def _even(configurations: int, size: int) -> int:
    """How many of so many configurations stand in each pack, if packs of at most `size` are as few as can be."""
    return -(-configurations // -(-configurations // size))


def width_class(columns: int) -> int:
    """The padded width of a pack: 1, 8, or the next multiple of 16.

    Few classes mean few compiled programs, and within one class a column's result is bitwise the same
    whatever its neighbours.

    >>> [width_class(columns) for columns in (1, 2, 9, 65)]
    [1, 8, 16, 80]
    """
    return next((width for width in _SMALL if columns <= width), -(-columns // _EVERY) * _EVERY)


def widest_within(columns: int) -> int:
    """The largest width that has at most so many columns; at least 1.

    >>> [widest_within(columns) for columns in (0, 7, 15, 50, 80)]
    [1, 1, 8, 48, 80]
    """
    return max([1, *(width for width in _SMALL if width <= columns), columns // _EVERY * _EVERY])
