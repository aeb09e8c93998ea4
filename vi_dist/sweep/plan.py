"""The plan: which configurations step together. It depends on the list of configurations alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vi_dist.sweep.configuration import Choice, Configuration

_FULL = 64
_SMALLER = (1, 8, 16, 32)


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
    pack_size: int | Literal["auto"] = "auto",
    *,
    first_place: int = 0,
    first_index: int = 0,
) -> list[Pack]:
    """Packs of configurations with one program, at most `pack_size` each (``auto``: 64).

    `first_place` is the place of the first configuration in the sweep's list, `first_index` the first pack's number.

    Programs come in order of first appearance and configurations keep their order, so that configurations of
    another program, appended, change no pack. All packs of a program have one width, the last one too: a program of
    another width would have to be compiled for it.
    """
    size = _FULL if pack_size == "auto" else pack_size
    programs: dict[Program, list[int]] = defaultdict(list)
    for place, configuration in enumerate(configurations, start=first_place):
        programs[program(configuration)].append(place)
    chunks = [
        (width_class(min(size, len(places))), places[start : start + size])
        for places in programs.values()
        for start in range(0, len(places), size)
    ]
    return [
        Pack(index, width, tuple(chunk)) for index, (width, chunk) in enumerate(chunks, start=first_index)
    ]


Program = tuple[Choice, str, int, str]


def program(configuration: Configuration) -> Program:
    """What a compiled step depends on: guide with its arguments, kind of optimizer, samples per step, dtype.

    Everything else is a column of numbers.
    """
    return configuration.guide, configuration.optimizer.name, configuration.num_samples, configuration.dtype


def width_class(columns: int) -> int:
    """The padded width of a pack: 1, 8, 16, 32, or the next multiple of 64.

    Few classes mean few compiled programs, and within one class a column's result is bitwise the same
    whatever its neighbours.
    """
    return next((width for width in _SMALLER if columns <= width), -(-columns // _FULL) * _FULL)
