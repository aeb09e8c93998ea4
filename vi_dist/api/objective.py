"""A user's own objective: a function of a fit, in the process that drives the sweep."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vi_dist.api.fit import Fit, make_fit
from vi_dist.api.planning import PlannedSweep
from vi_dist.cluster.columns import family
from vi_dist.cluster.fault import one_line
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.rows import row_of
from vi_dist.cluster.sweep_files import joined_params
from vi_dist.cluster.task import Outcome
from vi_dist.errors import SpecError

log = logging.getLogger(__name__)

Objective = Callable[[Fit], float]
"""Larger is better."""


class NoNumber(Exception):
    """An objective gave no finite number; the message says what it gave."""


def scoring(objective: Objective, planned: PlannedSweep, directory: Path) -> Callable[[PackRun, int], float]:
    """The objective as a driver takes it (`Driver.score`).

    At a rung the fit is what stands there, its losses those since the last one. The first sound fit must have a finite
    score: an objective that fails there most likely fails everywhere, and hours would be spent on a sweep that nothing
    could be ranked in. Sound is a fit whose ELBO is finite; in a sweep of point estimates, which have none, any that
    did not diverge. After a first score a fit without one has NaN, and a warning says so.

    Raises:
        SpecError: from the function returned, where the first sound fit has no score; `directory` is where the sweep
            can be resumed from.
    """
    have_density = any(
        family(one.guide, planned.checked.layout.noise).settled.has_density for one in planned.configurations
    )
    scored = False

    def score(run: PackRun, row: int) -> float:
        nonlocal scored
        assert run.outcomes is not None
        name, outcome = run.task.configurations[row].name, run.outcomes[row]
        try:
            value = finite(objective, _fit(planned, run, row, outcome))
        except NoNumber as fault:
            if not scored and (math.isfinite(outcome.elbo) or not have_density):
                raise SpecError(_refusal(name, str(fault), directory), key="objective") from fault.__cause__
            log.warning("the objective %s for %s, which ranks behind all that have a score", fault, name)
            return math.nan
        scored = True
        return value

    return score


def finite(objective: Objective, fit: Fit) -> float:
    """The objective of a fit. Raises `NoNumber` where it raises, or returns anything but one finite number."""
    try:
        given: Any = objective(fit)
    except (Exception, SystemExit) as error:  # one fit that cannot be scored must not cost the others theirs
        raise NoNumber(f"raised {one_line(error)}") from error
    try:
        value = math.nan if isinstance(given, str | bytes) else float(given)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise NoNumber(f"returned {_short(given)}, which is no finite number,")
    return value


def _fit(planned: PlannedSweep, run: PackRun, row: int, outcome: Outcome) -> Fit:
    """The fit of a pack's row."""
    configuration = run.task.configurations[row]
    key = planned.key(configuration)
    losses = torch.from_numpy(run.curves()[row]["train/loss"].copy())
    params = joined_params(outcome.leaves, outcome.model_params)
    numbers = row_of(key, configuration, outcome)
    return make_fit(key, configuration.to_dict(), numbers, losses, params, planned.checked.prepared)


def _refusal(name: str, what: str, directory: Path) -> str:
    return (
        f"the objective {what} for {name}, the first fit that it was called with, so nothing could be ranked; it is "
        "given a vi_dist.Fit and has to return one finite number, larger is better. What is fitted is kept: "
        f"Experiment.resume({str(directory)!r}, objective=...) goes on with a function that does"
    )


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
