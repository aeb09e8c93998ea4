"""What every table of choices (guides, divergences, estimators, optimizers, schedules) is made of. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

REQUIRED: Any = object()


@dataclass(frozen=True)
class Argument:
    """One argument of an entry: its type, its default (or `REQUIRED`) and the closed range it must lie in."""

    kind: type
    default: Any = REQUIRED
    low: float | None = None
    high: float | None = None
    description: str = ""


@dataclass(frozen=True)
class Entry:
    """One choice: its name on every wire, a one-line description, its arguments and what makes it."""

    name: str
    description: str
    make: Callable[..., Any]
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    traits: frozenset[str] = frozenset()
