"""What a dimension of the space holds: numbers, ranges, and entries of a table with arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vi_dist.sweep.values import Scalar, short_number
from vi_dist.vi.table import Argument

# A float32 holds it, and the smallest step that it makes.
LEARNING_RATE = Argument(float, 0.01, low=1e-30, high=1e30)
SEED = Argument(int, 0, low=0, high=2**32 - 1)
NUM_SAMPLES = Argument(int, 8, low=1, high=1_000_000)
STEPS = Argument(int, 2000, low=1, high=10_000_000)
AVERAGING = Argument(float, 0.1, low=0.0, high=1.0)

# Every dimension in the order a grid is walked, the last one fastest: a number, or None for an entry.
DIMENSIONS: Mapping[str, Argument | None] = {
    "guide": None,
    "divergence": None,
    "estimator": None,
    "optimizer": None,
    "schedule": None,
    "initialisation": None,
    "num_samples": NUM_SAMPLES,
    "steps": STEPS,
    "averaging": AVERAGING,
    "learning_rate": LEARNING_RATE,
    "seed": SEED,
}


@dataclass(frozen=True)
class Item:
    """One number, text or truth value, and the key path it stands at."""

    value: Scalar
    key: str = field(default="", compare=False)


@dataclass(frozen=True)
class Range:
    """Every number from `low` to `high`, both included, uniform or uniform in the logarithm."""

    low: int | float
    high: int | float
    log: bool = False
    key: str = field(default="", compare=False)


@dataclass(frozen=True)
class Named:
    """An entry of a table and what was written for its arguments, by argument name."""

    name: str
    arguments: tuple[tuple[str, Dimension], ...] = ()
    key: str = field(default="", compare=False)


Option = Item | Range | Named
Dimension = tuple[Option, ...]


def dump(dimension: Dimension) -> Any:
    """What `vi_dist.sweep.parsing` reads back as an equal dimension: a mapping for a range, else a list."""
    if isinstance(dimension[0], Range):
        return {"low": dimension[0].low, "high": dimension[0].high, "log": dimension[0].log}
    return [dump_named(option) if isinstance(option, Named) else dump_item(option) for option in dimension]


def dump_item(option: Item | Range) -> Scalar:
    """A single value; a range never stands among others."""
    assert isinstance(option, Item)
    return option.value


def dump_named(named: Named) -> Any:
    """An entry as a spec writes it; an argument with one value is that value."""
    if not named.arguments:
        return named.name
    written = {name: dump(dimension) for name, dimension in named.arguments}
    return {named.name: {k: v[0] if isinstance(v, list) and len(v) == 1 else v for k, v in written.items()}}


def ranges(dimension: Dimension) -> Iterator[Range]:
    """Every range in a dimension, those of arguments included."""
    for option in dimension:
        if isinstance(option, Range):
            yield option
        elif isinstance(option, Named):
            for _, inner in option.arguments:
                yield from ranges(inner)


def as_list(found: Range) -> str:
    """Three values across a range, as the list that a grid wants: ``[0.001, 0.01, 0.1]``."""
    low, high = float(found.low), float(found.high)
    middle = (low * high) ** 0.5 if found.log else (low + high) / 2
    whole = isinstance(found.low, int) and isinstance(found.high, int)
    values = dict.fromkeys(short_number(round(x) if whole else x) for x in (low, middle, high))
    return f"[{', '.join(values)}]"


def join(prefix: str, name: object) -> str:
    """A key path one step longer."""
    return f"{prefix}.{name}" if prefix else str(name)
