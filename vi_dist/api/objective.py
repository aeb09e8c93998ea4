"""A user's own objective: a function of a fit, in the process that drives the sweep."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import torch

from vi_dist.api.fit import Fit, make_fit
from vi_dist.api.planning import PlannedSweep
from vi_dist.cluster.fault import one_line
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.rows import row_of
from vi_dist.cluster.sweep_files import joined_params

log = logging.getLogger(__name__)

Objective = Callable[[Fit], float]
"""Larger is better."""


def scoring(objective: Objective, planned: PlannedSweep) -> Callable[[PackRun, int], float]:
    """The objective as a driver takes it (`Driver.score`); NaN, with a warning, where it raises.

    At a rung the fit is what stands there, its losses those since the last one.
    """

    def score(run: PackRun, row: int) -> float:
        assert run.outcomes is not None
        configuration, outcome = run.task.configurations[row], run.outcomes[row]
        key = planned.key(configuration)
        losses = torch.from_numpy(run.curves()[row]["train/loss"].copy())
        params = joined_params(outcome.leaves, outcome.model_params)
        told = row_of(key, configuration, outcome)
        fit = make_fit(key, configuration.to_dict(), told, losses, params, planned.checked.prepared)
        try:
            return float(objective(fit))
        except Exception as error:  # one fit that cannot be scored must not cost the others theirs
            log.warning("the objective of %s raised %s", configuration.name, one_line(error))
            return math.nan

    return score
