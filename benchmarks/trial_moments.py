"""How far a fit is from a reference: by its own draws, and by its draws weighted by importance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from vi_dist import Fit
from vi_dist.cluster.prepared import PreparedModel
from vi_dist.evaluation.importance import weighted_rows
from vi_dist.evaluation.moments import Distance, Moments, distance, moments
from vi_dist.evaluation.pareto import pareto_khat, smoothed_weights


@dataclass(frozen=True)
class Found:
    """Distances to the reference, of the draws as they are and weighted.

    Attributes:
        plain, weighted: the distances.
        khat: of these draws.
        change: the distance between the two sets of moments, in standard deviations of the weighted draws.
        own: the moments of the draws as they are.
    """

    plain: Distance
    weighted: Distance
    khat: float
    change: Distance
    own: Moments

    def to_dict(self) -> dict[str, float | str]:
        """Columns of a table."""
        return {
            "mu": self.plain.mean,
            "sd": self.plain.sd,
            "worst": self.plain.worst,
            "mu*": self.weighted.mean,
            "sd*": self.weighted.sd,
            "khat_draws": self.khat,
            "mu_change": self.change.mean,
            "sd_change": self.change.sd,
        }


_precise: dict[int, PreparedModel] = {}


def measured(fit: Fit, reference: Moments, n: int) -> Found:
    """Distances of a fit to a reference from n draws, the same ones for both."""
    prepared = fit.ready()
    if id(prepared) not in _precise:
        _precise.clear()  # one model at a time: the last one's trace is kept
        _precise[id(prepared)] = PreparedModel(prepared.setup, torch.float64)
    precise = _precise[id(prepared)]
    rows, log_weights = weighted_rows(
        precise.joint().value, fit.guide(), fit.leaves(), fit.model_params(), n, 1
    )
    draws = {name: values.numpy() for name, values in precise.constrain(rows).items()}
    weights = smoothed_weights(np.nan_to_num(log_weights.numpy(), nan=-np.inf))
    plain, weighted = moments(draws), moments(draws, weights)
    return Found(
        distance(plain, reference),
        distance(weighted, reference),
        pareto_khat(log_weights.numpy()),
        distance(plain, weighted),
        plain,
    )
