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
EVIDENCE = ("ess", "draws")
"""Columns behind `COLUMNS` that the verdict needs: effective sample size of the weights, draws of the evaluation."""
OBJECTIVE = "objective"
"""Where a leaderboard's `attrs` keep the column that it is ranked by."""
SHOWN = ("rank", "name", "status", "converged", "elbo", "elbo_se", "iw_elbo", "khat", "seconds")
STATUSES = ("finished", "stopped", "diverged", "failed", "interrupted")
_KINDS_TOLD = 3
_FLOATS = ("learning_rate", "elbo", "elbo_se", "iw_elbo", "khat", *EXTRAS, "seconds", *EVIDENCE)
_INTEGERS = ("rank", "num_samples", "seed", "steps")


def leaderboard(rows: Iterable[Mapping[str, Any]], objective: str = "elbo") -> pd.DataFrame:
    """Rows (mappings with every column but `rank`; `EXTRAS` as far as there are any) in rank order.

    Finished ones first, by falling objective; one that has none (a point estimate, a density that is not finite) after
    those that have one. What did not finish follows, in the order of `STATUSES`. Ties keep the order they came in.
    """
    ordered = sorted(rows, key=lambda row: _place(row, objective))
    ranked = [{**row, "rank": rank} for rank, row in enumerate(ordered, start=1)]
    extras = [name for name in EXTRAS if name == objective or _is_there(ranked, name)]
    evidence = [name for name in EVIDENCE if _is_there(ranked, name)]
    columns = [*with_extras(COLUMNS, extras), *evidence]
    frame = pd.DataFrame(ranked, columns=columns)
    kinds = dict.fromkeys(_FLOATS, "float64") | dict.fromkeys(_INTEGERS, "int64")
    texts = {name: "str" for name in COLUMNS if name not in kinds}
    frame = frame.astype({name: kind for name, kind in (kinds | texts).items() if name in columns})
    frame.attrs[OBJECTIVE] = objective
    return frame


def _is_there(rows: Iterable[Mapping[str, Any]], name: str) -> bool:
    """Whether any of the rows has a number of that name."""
    return any(not math.isnan(row.get(name, math.nan)) for row in rows)


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
    """The first row that could be ranked: of those that finished or, where none of these can be, that were stopped.

    None where no row has a number to be ranked by: whoever stands first then stands there by chance.
    """
    if frame.empty:
        return None
    for status in ("finished", "stopped"):
        rows = frame[frame["status"] == status]
        if len(rows) and math.isfinite(rows.iloc[0].get(objective_of(frame), math.nan)):
            return rows.iloc[0]
    return None


def unranked(frame: pd.DataFrame) -> str:
    """Why there is no best configuration, in words; empty where there is one."""
    if best(frame) is not None:
        return ""
    finished = int((frame["status"] == "finished").sum())
    if not finished:
        return "no configuration finished"
    objective = objective_of(frame)
    which = "the one that finished" if finished == 1 else f"the {finished} that finished"
    text = f"nothing could be ranked: none of {which} has a finite {objective}"
    if objective in ("elbo", "iw_elbo") and bool(frame["guide"].str.startswith("delta").all()):
        text += "; a point estimate has none, so add guides with a density, or rank by elpd of rows held out"
    return text


def count_by_status(frame: pd.DataFrame) -> dict[str, int]:
    """How many configurations have each status, in the order of `STATUSES`."""
    found = frame["status"].value_counts()
    return {status: int(found[status]) for status in STATUSES if status in found}


def counts(frame: pd.DataFrame) -> str:
    """How many configurations ended how: ``256 configurations: 250 finished, 6 diverged``."""
    parts = [f"{count} {status}" for status, count in count_by_status(frame).items()]
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


def not_asked(frame: pd.DataFrame, wanted: int | None) -> list[str]:
    """Of a search that ended before it had asked for all configurations that were `wanted`, a line."""
    if wanted is None or len(frame) >= wanted:
        return []
    return [f"{wanted - len(frame)} of {wanted} configurations were never asked for: the sweep ended before"]


def failures(frame: pd.DataFrame) -> list[str]:
    """Why configurations diverged or failed, a line for each kind of reason, the most frequent first.

    Reasons that differ in nothing but numbers are of one kind; the line has that of the best ranked of them.
    """
    told = []
    for status in ("diverged", "failed"):
        rows = frame[frame["status"] == status]
        kinds = rows["reason"].str.replace(r"\d[\d.,]*", "#", regex=True)
        for kind, count in list(kinds.value_counts().items())[:_KINDS_TOLD]:
            first = rows[kinds == kind].iloc[0]
            others = f" (and {count - 1} more like it)" if count > 1 else ""
            told.append(f"{status}: {first['name']}{others}: {first['reason']}")
        if kinds.nunique() > _KINDS_TOLD:
            told.append(
                f"{status}: {kinds.nunique() - _KINDS_TOLD} more kinds of reasons, in the column reason"
            )
    return told


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
        return f"best: none, since {unranked(frame)}"
    text = f"best: {row['name']} {objective}={row.get(objective, math.nan):.3f}"
    error = row.get(f"{objective}_se")
    text += "" if error is None else f" ± {error:.3f}"
    return text if row["status"] == "finished" else f"{text}, {unfinished(row)}"


def unfinished(row: Mapping[Any, Any] | pd.Series[Any]) -> str:
    """What kept the training of a row's fit from its end, in words; empty if nothing did.

    A fit of fewer steps than can be compared by halves counts as one that has not converged. What is computed after
    the last step (Laplace) has no halves, and says in its reason whether it reached the mode.
    """
    if row["status"] != "finished":
        return f"{row['status']} after {row['steps']} steps"
    if row.get("converged"):
        return "not converged" if row["converged"] == "no" else ""
    from vi_dist.evaluation.convergence import (
        FEWEST_STEPS,
    )  # with torch, which printing a table need not wait for

    few = row["steps"] < FEWEST_STEPS
    return f"only {row['steps']} steps long, too short to tell whether it converged" if few else ""


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
