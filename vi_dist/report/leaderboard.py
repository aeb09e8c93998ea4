"""The leaderboard: configurations in rank order, as a table for programs and as text for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
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
    "elbo",
    "elbo_se",
    "iw_elbo",
    "khat",
    "seconds",
    "run_id",
)
SHOWN = ("rank", "name", "status", "elbo", "elbo_se", "iw_elbo", "khat", "seconds")
STATUSES = ("finished", "stopped", "diverged", "failed", "interrupted")
_FLOATS = ("learning_rate", "elbo", "elbo_se", "iw_elbo", "khat", "seconds")
_INTEGERS = ("rank", "num_samples", "seed", "steps")


def leaderboard(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows (mappings with every column but `rank`) in rank order.

    Finished ones first, by falling ELBO; one without an ELBO (a point estimate, a density that is not finite) after
    those that have one. What did not finish follows, in the order of `STATUSES`. Ties keep the order they came in.
    """
    ordered = sorted(rows, key=_place)
    ranked = [{**row, "rank": rank} for rank, row in enumerate(ordered, start=1)]
    frame = pd.DataFrame(ranked, columns=list(COLUMNS))
    kinds = dict.fromkeys(_FLOATS, "float64") | dict.fromkeys(_INTEGERS, "int64")
    texts = {name: "str" for name in COLUMNS if name not in kinds}
    return frame.astype({**kinds, **texts})


def _place(row: Mapping[str, Any]) -> tuple[int, bool, float]:
    elbo = float(row["elbo"])
    finite = math.isfinite(elbo)
    return STATUSES.index(row["status"]), not finite, -elbo if finite else 0.0


def best(frame: pd.DataFrame) -> pd.Series[Any] | None:
    """The first row, if it finished."""
    if frame.empty or frame.iloc[0]["status"] != "finished":
        return None
    return frame.iloc[0]


def counts(frame: pd.DataFrame) -> str:
    """How many configurations ended how: ``256 configurations: 250 finished, 6 diverged``."""
    found = frame["status"].value_counts()
    parts = [f"{found[status]} {status}" for status in STATUSES if status in found]
    noun = "configuration" if len(frame) == 1 else "configurations"
    return f"{len(frame)} {noun}: {', '.join(parts)}" if parts else f"no {noun}"


def table_text(frame: pd.DataFrame, top: int | None = None) -> str:
    """The first `top` rows as aligned text, a line each, the header above them.

    >>> row = dict.fromkeys(COLUMNS, 0) | {"name": "full_rank-kl_reverse-lr0.01-s0", "status": "finished"}
    >>> print(table_text(leaderboard([row | {"elbo": -529.2041}])))  # doctest: +NORMALIZE_WHITESPACE
    rank  name                            status    elbo      elbo_se  iw_elbo  khat   seconds
       1  full_rank-kl_reverse-lr0.01-s0  finished  -529.204    0.000    0.000  0.000     0.00
    """
    shown = frame if top is None else frame.head(top)
    cells = [
        [_cell(name, value) for name, value in zip(SHOWN, row, strict=True)] for row in shown[[*SHOWN]].values
    ]
    widths = [max(map(len, column)) for column in zip(SHOWN, *cells, strict=True)]
    lines = [_line(SHOWN, widths), *(_line(row, widths) for row in cells)]
    if len(shown) < len(frame):
        lines.append(f"... and {len(frame) - len(shown)} more")
    return "\n".join(lines)


def best_line(frame: pd.DataFrame) -> str:
    """``best: <name> elbo=<x> ± <se>``."""
    row = best(frame)
    if row is None:
        return "best: none, since no configuration finished"
    return f"best: {row['name']} elbo={row['elbo']:.3f} ± {row['elbo_se']:.3f}"


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
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _line(cells: Iterable[str], widths: Iterable[int]) -> str:
    """Text to the left, numbers to the right."""
    parts = [
        cell.ljust(width) if name in ("name", "status") else cell.rjust(width)
        for name, cell, width in zip(SHOWN, cells, widths, strict=True)
    ]
    return "  ".join(parts).rstrip()
