"""What a report compares: one approximation for each guide and divergence, with its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vi_dist.checked_files import read_json
from vi_dist.errors import SpecError
from vi_dist.report.leaderboard import best, objective_of
from vi_dist.report.sweep_directory import MENDING, PLAN
from vi_dist.sweep.configuration import CHOICES, Choice
from vi_dist.vi.divergences import DIVERGENCES
from vi_dist.vi.estimators import ESTIMATORS
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.initialisation import INITIALISATIONS
from vi_dist.vi.optimizers import OPTIMIZERS
from vi_dist.vi.schedules import SCHEDULES
from vi_dist.vi.table import REQUIRED, Entry

CONTENDERS = 6
"""How many a figure can tell apart."""
_LABEL = ("guide", "divergence")
_NUMBERS = ("learning_rate", "num_samples", "steps", "averaging", "seed", "dtype")
_TABLES: Mapping[str, Mapping[str, Entry]] = {
    "guide": GUIDES,
    "divergence": DIVERGENCES,
    "estimator": ESTIMATORS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "initialisation": INITIALISATIONS,
}


@dataclass(frozen=True)
class Contender:
    """One approximation in the figures.

    Attributes:
        label: what the legends call it.
        key: of the best of its seeds.
        seeds: keys of the configurations that differ from it in nothing but the seed, itself among them.
    """

    label: str
    key: str
    seeds: tuple[str, ...]


def read_choices(directory: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """What was chosen for each configuration of a leaderboard: keys as index, a column a hyperparameter.

    Choices stand as text, ``amari(alpha=0.5)``, without arguments that have their default everywhere.
    """
    file = directory / PLAN
    plan: Mapping[str, Mapping[str, Any]] = (
        read_json(file, MENDING)["configurations"] if file.exists() else {}
    )
    rows = [plan.get(str(row["key"])) or row for row in frame.to_dict("records")]
    names = [name for name in (*CHOICES, *_NUMBERS) if all(name in row for row in rows)]
    columns = {
        name: _texts(name, [row[name] for row in rows]) if name in CHOICES else [row[name] for row in rows]
        for name in names
    }
    return pd.DataFrame(columns, index=frame["key"].astype(str).tolist())


def _texts(dimension: str, values: Sequence[Any]) -> list[str]:
    """Choices as text; an argument is left out where it has its default whenever the entry was chosen."""
    found = [Choice.from_data(value) for value in values]
    told = {
        (choice.name, argument)
        for choice in found
        for argument, value in choice.arguments
        if value != _default(dimension, choice.name, argument)
    }
    return [
        str(
            replace(
                choice, arguments=tuple(pair for pair in choice.arguments if (choice.name, pair[0]) in told)
            )
        )
        for choice in found
    ]


def _default(dimension: str, name: str, argument: str) -> object:
    """The default of an entry's argument; of one that the tables have no more, nothing that anybody chooses."""
    entry = _TABLES[dimension].get(name)
    return entry.arguments[argument].default if entry and argument in entry.arguments else REQUIRED


def varying(choices: pd.DataFrame) -> list[str]:
    """The hyperparameters that are not the same everywhere."""
    return [str(name) for name in choices.columns if choices[name].nunique(dropna=False) > 1]


def seeds_of(choices: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """For every key, in the frame's order, the keys that differ from it in nothing but the seed."""
    others = [name for name in choices.columns if name != "seed"]
    groups: dict[tuple[object, ...], list[str]] = {}
    owner = {}
    for key, values in zip(choices.index, choices[others].itertuples(index=False, name=None), strict=True):
        groups.setdefault(values, []).append(str(key))
        owner[str(key)] = values
    return {key: tuple(groups[values]) for key, values in owner.items()}


def contenders(frame: pd.DataFrame, choices: pd.DataFrame) -> tuple[Contender, ...]:
    """The best configuration of every guide and divergence, in rank order; at most `CONTENDERS`."""
    seeds = seeds_of(choices)
    found: dict[str, Contender] = {}
    labels = dict(zip(choices.index, choices[list(_LABEL)].itertuples(index=False, name=None), strict=True))
    for key in ranked(frame)["key"].astype(str):
        label = " · ".join(map(str, labels[key]))
        found.setdefault(label, Contender(label, key, seeds[key]))
    return tuple(found.values())[:CONTENDERS]


def ranked(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that compete with the winner: they ended as it did (stopped, if a budget ended all) and have a value."""
    winner = best(frame)
    if winner is None:
        return frame[:0]
    return frame[(frame["status"] == winner["status"]) & np.isfinite(frame[objective_of(frame)])]


def chosen(frame: pd.DataFrame, keys: Sequence[str]) -> tuple[Contender, ...]:
    """The configurations with these keys, names or ranks, each by itself.

    Raises `SpecError` for one that the leaderboard has not.
    """
    found = []
    for wanted in dict.fromkeys(keys):
        same = (frame["key"] == wanted) | (frame["name"] == wanted) | (frame["rank"].astype(str) == wanted)
        rows = frame[same]
        if rows.empty:
            raise SpecError(
                f"{wanted!r} is no configuration of this sweep; give a rank (1 to {len(frame)}) or a name, as vi-dist "
                "leaderboard prints them, or a key",
                key="KEY",
            )
        row = rows.iloc[0]
        found.append(Contender(str(row["name"]), str(row["key"]), (str(row["key"]),)))
    return tuple(found)
