"""A configuration and its outcome as a row of the leaderboard."""

from __future__ import annotations

from typing import Any

from vi_dist.cluster.task import Outcome
from vi_dist.sweep.configuration import Configuration


def row_of(key: str, configuration: Configuration, outcome: Outcome, run_id: str = "") -> dict[str, Any]:
    """Every column of the leaderboard but the rank."""
    return {
        "key": key,
        "name": configuration.name,
        "guide": str(configuration.guide),
        "divergence": str(configuration.divergence),
        "estimator": str(configuration.estimator),
        "optimizer": str(configuration.optimizer),
        "learning_rate": configuration.learning_rate,
        "num_samples": configuration.num_samples,
        "seed": configuration.seed,
        "steps": outcome.steps,
        "status": outcome.status,
        "reason": outcome.reason,
        "converged": outcome.converged,
        "elbo": outcome.elbo,
        "elbo_se": outcome.elbo_se,
        "iw_elbo": outcome.iw_elbo,
        "khat": outcome.khat,
        "ess": outcome.ess,
        "draws": outcome.draws,
        "elpd": outcome.elpd,
        "elpd_se": outcome.elpd_se,
        "score": outcome.score,
        "mean_rms": outcome.mean_rms,
        "sd_rms": outcome.sd_rms,
        "seconds": outcome.seconds,
        "run_id": run_id,
    }
