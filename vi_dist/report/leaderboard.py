"""The leaderboard: configurations in rank order, as a table for programs and as text for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

COLUMNS = (
    "rank",
    "key",
    "name",
    "guide",
    "divergence",
    "estimator",
    "optimizer",
    "learning_rate",
    "num_samples",
    "seed",
    "steps",
    "status",
    "reason",
    "converged",
    "elbo",
    "elbo_se",
    "iw_elbo",
    "khat",
    "seconds",
    "run_id",
)
EXTRAS = ("elpd", "elpd_se", "score", "mean_rms", "sd_rms")
"""Columns after k-hat of sweeps that hold rows out, have an objective of their own, or a reference."""
OBJECTIVE = "objective"
"""Where a leaderboard's `attrs` keep the column that it is ranked by."""
SHOWN = ("rank", "name", "status", "converged", "elbo", "elbo_se", "iw_elbo", "khat", "seconds")
STATUSES = ("finished", "stopped", "diverged", "failed", "interrupted")
_FLOATS = ("learning_rate", "elbo", "elbo_se", "iw_elbo", "khat", *EXTRAS, "seconds")
_INTEGERS = ("rank", "num_samples", "seed", "steps")


def leaderboard(rows: Iterable[Mapping[str, Any]], objective: str = "elbo") -> pd.DataFrame:
    """Rows (mappings with every column but `rank`; `EXTRAS` as far as there are any) in rank order.

    Finished ones first, by falling objective; one that has none (a point estimate, a density that is not finite) after
    those that have one. What did not finish follows, in the order of `STATUSES`. Ties keep the order they came in.
    """
    ordered = sorted(rows, key=lambda row: _place(row, objective))
    ranked = [{**row, "rank": rank} for rank, row in enumerate(ordered, start=1)]
    extras = [name for name in EXTRAS if any(not math.isnan(row.get(name, math.nan)) for row in ranked)]
    columns = with_extras(COLUMNS, extras)
    frame = pd.DataFrame(ranked, columns=columns)
    kinds = dict.fromkeys(_FLOATS, "float64") | dict.fromkeys(_INTEGERS, "int64")
    texts = {name: "str" for name in COLUMNS if name not in kinds}
    frame = frame.astype({name: kind for name, kind in (kinds | texts).items() if name in columns})
    frame.attrs[OBJECTIVE] = objective
    return frame


def with_extras(columns: Sequence[str], extras: Iterable[str]) -> list[str]:
    """Columns with extras after k-hat."""
    after = columns.index("khat") + 1
    return [*columns[:after], *(name for name in EXTRAS if name in extras), *columns[after:]]


def shown(frame: pd.DataFrame) -> list[str]:
    """The columns that people are shown."""
    return with_extras(SHOWN, frame.columns)


def objective_of(frame: pd.DataFrame) -> str:
    """The column that a leaderboard is ranked by."""
    return str(frame.attrs.get(OBJECTIVE, "elbo"))


def _place(row: Mapping[str, Any], objective: str) -> tuple[int, bool, float]:
    value = float(row.get(objective, math.nan))
    finite = math.isfinite(value)
    return STATUSES.index(row["status"]), not finite, -value if finite else 0.0


def best(frame: pd.DataFrame) -> pd.Series[Any] | None:
    """The first row, if it finished or, where nothing did, if it was stopped (by a budget) and could be evaluated."""
    if frame.empty:
        return None
    row = frame.iloc[0]
    stopped = row["status"] == "stopped" and math.isfinite(row.get(objective_of(frame), math.nan))
    return row if row["status"] == "finished" or stopped else None


def counts(frame: pd.DataFrame) -> str:
    """How many configurations ended how: ``256 configurations: 250 finished, 6 diverged``."""
    found = frame["status"].value_counts()
    parts = [f"{found[status]} {status}" for status in STATUSES if status in found]
    noun = "configuration" if len(frame) == 1 else "configurations"
    return f"{len(frame)} {noun}: {', '.join(parts)}" if parts else f"no {noun}"


def unevaluated(frame: pd.DataFrame) -> list[str]:
    """Of an interrupted sweep, a line: what is kept, what has no numbers and why; nothing of any other."""
    steps = frame.loc[frame["status"] == "interrupted", "steps"]
    if steps.empty:
        return []
    begun = int((steps > 0).sum())
    parts = [f"{begun} under way (curves kept)"] if begun else []
    parts += [f"{len(steps) - begun} not begun"] if len(steps) > begun else []
    left_out = "not evaluated, so without ELBO, k-hat and guide"
    return [f"interrupted: {len(frame) - len(steps)} ended and kept; {left_out}: {', '.join(parts)}"]


def table_text(frame: pd.DataFrame, top: int | None = None) -> str:
    """The first `top` rows as aligned text, a line each, the header above them.

    >>> row = dict.fromkeys(COLUMNS, 0) | {"name": "full_rank-kl_reverse-lr0.01-s0", "status": "finished"}
    >>> row["converged"] = True
    >>> print(table_text(leaderboard([row | {"elbo": -529.2041}])))  # doctest: +NORMALIZE_WHITESPACE
    rank  name                            status    converged      elbo  elbo_se  iw_elbo   khat  seconds
       1  full_rank-kl_reverse-lr0.01-s0  finished  True       -529.204    0.000    0.000  0.000     0.00
    """
    rows, names = frame if top is None else frame.head(top), shown(frame)
    cells = [
        [_cell(name, value) for name, value in zip(names, row, strict=True)] for row in rows[names].values
    ]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    lines = [_line(names, names, widths), *(_line(names, row, widths) for row in cells)]
    if len(rows) < len(frame):
        lines.append(f"... and {len(frame) - len(rows)} more")
    return "\n".join(lines)


def best_line(frame: pd.DataFrame) -> str:
    """``best: <name> elbo=<x> ± <se>``; without an error for an objective that has none; and whether it was stopped."""
    row, objective = best(frame), objective_of(frame)
    if row is None:
        return "best: none, since no configuration finished"
    text = f"best: {row['name']} {objective}={row.get(objective, math.nan):.3f}"
    error = row.get(f"{objective}_se")
    text += "" if error is None else f" ± {error:.3f}"
    return text if row["status"] == "finished" else f"{text}, stopped after {row['steps']} steps"


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as plain data for JSON, in which nothing is NaN or infinite: those are null."""
    return [
        {str(name): plain_number(value) for name, value in row.items()} for row in frame.to_dict("records")
    ]


def plain_number(value: Any) -> Any:
    """The value, or None for a number that JSON has no form for."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(name: str, value: Any) -> str:
    if name == "seconds":
        return f"{value:.2f}"
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3f}"
    return str(value)


def _line(names: Iterable[str], cells: Iterable[str], widths: Iterable[int]) -> str:
    """Text to the left, numbers to the right."""
    parts = [
        cell.ljust(width) if name in ("name", "status", "converged") else cell.rjust(width)
        for name, cell, width in zip(names, cells, widths, strict=True)
    ]
    return "  ".join(parts).rstrip()
