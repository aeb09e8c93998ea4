"""Names that are short, put what differs first, and are unique within a sweep."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from vi_dist.sweep.configuration import Choice, Configuration
from vi_dist.sweep.values import short_number


@dataclass(frozen=True)
class Draft:
    """A configuration before it has its sweep-wide name, with the choices as they were written.

    Names show the arguments that the user wrote, not the defaults that completed them.
    """

    configuration: Configuration
    written: Mapping[str, Choice]


@dataclass(frozen=True)
class _Level:
    """How much a name tells: digits of its numbers, which suffixes, and arguments by name."""

    digits: int
    suffixes: str  # none | varying | all
    spelled: bool = False


# A name that collides goes up one level; the last one tells everything.
_LEVELS = (_Level(3, "none"), _Level(3, "varying"), _Level(6, "varying"), _Level(17, "all", spelled=True))

_SUFFIXES: Mapping[str, Callable[[Draft, _Level], str]] = {
    "num_samples": lambda draft, level: f"samples{draft.configuration.num_samples}",
    "steps": lambda draft, level: f"steps{draft.configuration.steps}",
    "averaging": lambda draft, level: f"average{short_number(draft.configuration.averaging, level.digits)}",
    "optimizer": lambda draft, level: _choice(draft, "optimizer", level),
    "schedule": lambda draft, level: _choice(draft, "schedule", level),
    "initialisation": lambda draft, level: _choice(draft, "initialisation", level),
    "estimator": lambda draft, level: _choice(draft, "estimator", level),
}


def named(drafts: Sequence[Draft]) -> list[Configuration]:
    """The configurations of `drafts`, which differ from one another, each with a name of its own.

    ``full_rank-amari0.5-lr0.01-s0``; the estimator stands in a name when it was not ``auto``. Where two names
    collide, what distinguishes them is appended (``-samples16``, ``-steps500``, ``-sgd``), then more digits.
    """
    levels = [0] * len(drafts)
    while True:
        names, collided = _names(drafts, levels)
        if not collided:
            return [
                replace(draft.configuration, name=name) for draft, name in zip(drafts, names, strict=True)
            ]
        for index in collided:
            levels[index] += 1


def _names(drafts: Sequence[Draft], levels: Sequence[int]) -> tuple[list[str], list[int]]:
    """Each draft's name at its level, and those that share a name and can still tell more."""
    families: dict[str, list[int]] = defaultdict(list)
    for index, draft in enumerate(drafts):
        families[_label(draft, _LEVELS[0], ())].append(index)
    names = [""] * len(drafts)
    for members in families.values():
        varying = _varying([drafts[index] for index in members])
        for index in members:
            names[index] = _label(drafts[index], _LEVELS[levels[index]], varying)
    shared: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        shared[name].append(index)
    last = len(_LEVELS) - 1
    groups = (group for group in shared.values() if len(group) > 1)
    return names, [index for group in groups for index in group if levels[index] < last]


def _varying(drafts: Sequence[Draft]) -> tuple[str, ...]:
    """The suffixes that tell these drafts apart."""
    most = _LEVELS[-1]
    return tuple(name for name, text in _SUFFIXES.items() if len({text(draft, most) for draft in drafts}) > 1)


def _label(draft: Draft, level: _Level, varying: Sequence[str]) -> str:
    """The name of one draft at one level."""
    configuration = draft.configuration
    parts = [_choice(draft, "guide", level), _choice(draft, "divergence", level)]
    shown = {"none": (), "varying": tuple(varying), "all": tuple(_SUFFIXES)}[level.suffixes]
    if draft.written["estimator"].name != "auto" and "estimator" not in shown:
        parts.append(_choice(draft, "estimator", level))
    parts += [f"lr{short_number(configuration.learning_rate, level.digits)}", f"s{configuration.seed}"]
    return "-".join(parts + [_SUFFIXES[name](draft, level) for name in shown])


def _choice(draft: Draft, dimension: str, level: _Level) -> str:
    """A choice as written or, where everything is told, as resolved."""
    if level.spelled:
        return str(getattr(draft.configuration, dimension))
    choice = draft.written[dimension]
    resolved: Choice = getattr(draft.configuration, dimension)
    return (resolved if choice.name == "auto" else choice).short(level.digits)
