"""The marks of the trial by reference: what was aimed at, and whether it was met."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from vi_dist.evaluation.verdict import AS_IT_STANDS, DISTRUST, TRUSTWORTHY

MEDIAN_MU, MEDIAN_SD, WORST_MU, TRUSTED, OFF = 0.05, 0.035, 0.3, 8, 0.2


def marks(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for every mark."""
    mu, sd = statistics.median(row["mu"] for row in rows), statistics.median(row["sd"] for row in rows)
    worst = max(rows, key=lambda row: float(row["mu"]))
    below = [row["posterior"] for row in rows if _below(row)]
    trusted = [row for row in rows if row["verdict"] == TRUSTWORTHY]
    called_so = [row for row in rows if row["verdict"] in (TRUSTWORTHY, AS_IT_STANDS)]
    wrong = [row["posterior"] for row in called_so if max(row["mu"], row["sd"]) > OFF]
    lines = [
        (mu <= MEDIAN_MU, f"median mu {mu:.3f}, at most {MEDIAN_MU}"),
        (sd <= MEDIAN_SD, f"median sd {sd:.3f}, at most {MEDIAN_SD}"),
        (
            worst["mu"] <= WORST_MU or worst["verdict"] == DISTRUST,
            f"worst mu {worst['mu']:.3f} ({worst['posterior']}: {worst['verdict']}), at most {WORST_MU} or distrusted",
        ),
        (
            not below,
            f"ELBO at least the best full-rank Gaussian's less two standard errors; below it: {_list(below)}",
        ),
        (not wrong, f"never trustworthy where mu or sd is off by more than {OFF}; wrongly: {_list(wrong)}"),
        (
            len(trusted) >= min(TRUSTED, len(rows)),
            f"trustworthy {len(trusted)} of {len(rows)}, at least {min(TRUSTED, len(rows))}",
        ),
    ]
    return "\n".join(f"{'met   ' if met else 'MISSED'}  {line}" for met, line in lines)


def _below(row: Mapping[str, Any]) -> bool:
    """Whether the winner is below the best full-rank Gaussian by more than two standard errors of their difference."""
    if math.isnan(row["full_rank"]):
        return False
    error = math.hypot(row["elbo_se"], row["full_rank_se"])
    return bool(row["elbo"] < row["full_rank"] - 2 * error)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
