"""What successive halving saved, and what it risked: from the table of its rungs and the leaderboard."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vi_dist.report.leaderboard import objective_of

COLUMNS = ("generation", "rung", "steps", "key", "value", "rank", "goes_on", "of")
_KINDS = {
    **dict.fromkeys(("generation", "rung", "steps", "rank", "of"), "int64"),
    "goes_on": "bool",
    "value": "float64",
}


@dataclass(frozen=True)
class Halved:
    """One rung in hindsight.

    Attributes:
        generation: of the search, from 1.
        rung: its number, from 1, and the `steps` at which it stands.
        ranked, kept: configurations that were compared, and that went on.
        best_stopped: key of the best that did not; empty where all went on.
        gap: how far that one was below the last that went on.
        correlation: Spearman's, of the values here with the last ones of those that went on; NaN for fewer than three.
        gain: the most that one of those that went on gained afterwards; NaN where none has a later value.
    """

    generation: int
    rung: int
    steps: int
    ranked: int
    kept: int
    best_stopped: str
    gap: float
    correlation: float
    gain: float


def rung_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Everything that was ranked at rungs, long: generation of the search, rung, its steps, key, value, rank, whether
    it goes on, `of` steps."""
    return pd.DataFrame(list(rows), columns=list(COLUMNS)).astype({**_KINDS, "key": "str"})


def saved(rungs: pd.DataFrame) -> tuple[int, int]:
    """Steps that stopped configurations did not take, and steps that all that were ranked would have taken."""
    stopped = rungs[~rungs["goes_on"]]
    full = rungs.drop_duplicates("key")["of"].sum()
    return int((stopped["of"] - stopped["steps"]).sum()), int(full)


def halved(rungs: pd.DataFrame, final: Mapping[str, float]) -> list[Halved]:
    """Every rung in hindsight; `final` has the value of every finished configuration by key."""
    ranked = rungs.sort_values("rung")
    last = {**dict(zip(ranked["key"], ranked["value"], strict=True)), **final}
    return [_one(part, last) for _, part in rungs.groupby(["generation", "rung"], sort=True)]


def lines(rungs: pd.DataFrame, frame: pd.DataFrame, column_steps: Sequence[int] = ()) -> list[str]:
    """What to say of a halved sweep at its end, a line each; nothing of one without rungs.

    Args:
        rungs: `rung_table`.
        frame: the leaderboard.
        column_steps: steps times columns that packs took, and that they would have taken without rungs.
    """
    if rungs.empty:
        return []
    finished = frame[frame["status"] == "finished"]
    final = dict(zip(finished["key"], finished[objective_of(frame)], strict=True))
    names = dict(zip(frame["key"], frame["name"], strict=True))
    less, full = saved(rungs)
    told = [f"halving saved {less:,} of {full:,} steps ({less / full:.0%})"]
    if len(column_steps) == 2:
        taken, planned = column_steps
        told[0] += f"; packs, which keep their width, did {1 - taken / planned:.0%} less work"
    several = rungs["generation"].nunique() > 1
    for one in halved(rungs, final):
        text = f"generation {one.generation}, " if several else ""
        text += f"rung {one.rung} at {one.steps} steps: {one.kept} of {one.ranked} went on"
        if one.best_stopped:
            name = names.get(one.best_stopped, one.best_stopped)
            text += f"; the best one stopped, {name}, was {one.gap:.3f} below the cut"
            if one.gain > 0:
                text += f", and what went on gained up to {one.gain:.3f}"
            elif one.gain <= 0:
                text += ", and nothing that went on gained on its value there"
        if not math.isnan(one.correlation):
            text += f"; rank correlation with their last values {one.correlation:.2f}"
        told.append(text)
    return told


def _one(part: pd.DataFrame, last: Mapping[str, float]) -> Halved:
    ordered = part.sort_values("rank")
    ahead, behind = ordered[ordered["goes_on"]], ordered[~ordered["goes_on"]]
    later = ahead["key"].map(last)
    both = pd.DataFrame({"here": ahead["value"], "later": later}).dropna()
    correlation = both["here"].rank().corr(both["later"].rank()) if len(both) > 2 else math.nan
    gap = ahead["value"].iloc[-1] - behind["value"].iloc[0] if len(ahead) and len(behind) else math.nan
    return Halved(
        generation=int(ordered["generation"].iloc[0]),
        rung=int(ordered["rung"].iloc[0]),
        steps=int(ordered["steps"].iloc[0]),
        ranked=len(ordered),
        kept=len(ahead),
        best_stopped=str(behind["key"].iloc[0]) if len(behind) else "",
        gap=float(gap),
        correlation=float(correlation),
        gain=float((both["later"] - both["here"]).max()) if len(both) else math.nan,
    )
