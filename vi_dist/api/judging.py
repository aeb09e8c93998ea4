"""The verdict on a sweep's winner, from the tables and draws of the sweep itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from vi_dist.api.fit import Fit
from vi_dist.evaluation.evaluate import Evaluation
from vi_dist.evaluation.moments import Distance, distance, moments
from vi_dist.evaluation.verdict import Verdict, verdict

if TYPE_CHECKING:
    from vi_dist.api.sweep_result import SweepResult

# How many configurations behind the winner are compared with it, and how close in ELBO (nats) they must be.
COMPARED, CLOSE = 4, 0.1
DRAWS = 4000


def judged(result: SweepResult) -> Verdict:
    """Judge a sweep's winner. Raises `LookupError` if nothing finished."""
    winner = result.best()
    samples = result.spec.evaluation.samples
    found = Evaluation(winner.elbo, winner.elbo_se, winner.iw_elbo, winner.khat, samples)
    return verdict(found, _distances(result, winner))


def _distances(result: SweepResult, winner: Fit) -> list[Distance]:
    """From the winner to the next best configurations that came close, seeds of the same choices among them."""
    own = moments({name: draws.numpy() for name, draws in winner.sample(DRAWS).items()})
    found = []
    for key in _close(result.dataframe(), winner):
        other = moments({name: draws.numpy() for name, draws in result.get(key).sample(DRAWS).items()})
        found.append(distance(other, own))
    return found


def _close(frame: pd.DataFrame, winner: Fit) -> list[str]:
    """Keys of the next best finished configurations within `CLOSE` nats, or three standard errors, of the winner."""
    finished = frame[(frame["status"] == "finished") & (frame["key"] != winner.key)]
    slack = (finished["elbo_se"] + winner.elbo_se).mul(3).clip(lower=CLOSE)
    return [str(key) for key in finished[winner.elbo - finished["elbo"] <= slack]["key"].head(COMPARED)]
