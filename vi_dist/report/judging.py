"""The verdict on a sweep's winner, from the sweep's own table and draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from vi_dist.evaluation.evaluate import Evaluation
from vi_dist.evaluation.moments import Distance, distance, moments
from vi_dist.evaluation.verdict import Verdict, verdict
from vi_dist.report.leaderboard import best, unfinished, unranked
from vi_dist.report.stored_draws import Drawer

# How many configurations behind the winner are compared with it, and how close in ELBO (nats) they must be.
COMPARED, CLOSE = 4, 0.1


def judged(frame: pd.DataFrame, draw: Drawer, samples: int) -> Verdict:
    """Judge the winner of a leaderboard.

    Args:
        frame: the leaderboard.
        draw: gives draws from a configuration.
        samples: draws of the sweep's evaluations, for a leaderboard that does not hold those of each row.

    Raises:
        LookupError: nothing could be ranked, or a guide cannot be drawn from.
    """
    row = best(frame)
    if row is None:
        raise LookupError(f"{unranked(frame)}; dataframe() holds the reasons")
    elbo, error, bound, khat = (float(row[name]) for name in ("elbo", "elbo_se", "iw_elbo", "khat"))
    found = Evaluation(
        elbo, error, bound, khat, int(row.get("draws", samples)), float(row.get("ess", math.nan))
    )
    training = unfinished(row)
    ending = f"{row['reason']} {_converged(frame)}".rstrip() if training else str(row["reason"])
    return verdict(found, _distances(frame, str(row["key"]), draw), ending, training)


def _converged(frame: pd.DataFrame) -> str:
    """How many configurations converged, a sentence; empty where that is known of none."""
    known = [] if "converged" not in frame else frame["converged"].tolist()
    yes, no = known.count("yes"), known.count("no")
    return f"Of {yes + no} configurations that took all their steps {yes} converged." if yes + no > 1 else ""


def _distances(frame: pd.DataFrame, winner: str, draw: Drawer) -> list[Distance]:
    """From the winner to the next best configurations that came close, seeds of the same choices among them."""
    own = moments(draw(winner))
    return [distance(moments(draw(key)), own) for key in _close(frame, winner)]


def _close(frame: pd.DataFrame, winner: str) -> list[str]:
    """Keys of the finished configurations that the winner is compared with."""
    first = frame[frame["key"] == winner].iloc[0]
    finished = frame[(frame["status"] == first["status"]) & (frame["key"] != winner)]
    return [str(key) for key in close(first.to_dict(), finished)["key"].head(COMPARED)]


def close(first: Mapping[Any, Any], behind: pd.DataFrame) -> pd.DataFrame:
    """Those of the rows behind a first one whose ELBO is within `CLOSE` of it, and known as well as that.

    A noisy ELBO may be within its errors of the first and nats below all the same: it says nothing of agreement. An
    error of one evaluation overstates that of a difference, since the noise is common.
    """
    error = (behind["elbo_se"] ** 2 + first["elbo_se"] ** 2) ** 0.5
    return behind[(first["elbo"] - behind["elbo"] <= CLOSE) & (error <= CLOSE)]
