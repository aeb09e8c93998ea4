"""Draws from a fit, as rows of coordinates: as its guide makes them, or resampled by importance; and predictions."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vi_dist.api import arguments
from vi_dist.evaluation.importance import weighted_rows
from vi_dist.evaluation.pareto import (
    effective_sample_size,
    khat_threshold,
    pareto_khat,
    smoothed_weights,
)
from vi_dist.evaluation.verdict import DRAWS as EVALUATION_DRAWS
from vi_dist.evaluation.verdict import LEAST_ESS
from vi_dist.vi.context import model_context
from vi_dist.vi.predictive import replicate
from vi_dist.vi.sampling import draw_flat

if TYPE_CHECKING:
    from vi_dist.api.fitted_guide import FittedGuide

# Weighted draws behind n resampled ones: so many for each, and never fewer than an evaluation has.
_RATIO, _FEWEST = 4, 4096


def drawn_rows(fit: FittedGuide, n: int, seed: int, resample: bool) -> Tensor:
    """n draws `(n, D)` of the guide's coordinates, followed by the model's params; see `Fit.sample`."""
    n, seed = arguments.draws(n, seed, resample, fit.ready().layout.size)
    if resample:
        return _resampled(fit, n, seed)
    return draw_flat(fit.guide(), fit.leaves(), fit.model_params(), n, seed)


def predicted(fit: FittedGuide, rows: Tensor, seed: int) -> dict[str, Tensor]:
    """Replications of the observed variables at rows `(n, D)`; see `Fit.predict`."""
    prepared = fit.ready()
    _needs_all_rows(fit, "the observed rows of other shards are not here")
    with model_context(prepared.dtype, prepared.device):
        return replicate(prepared.model, prepared.layout, rows, seed)


def _resampled(fit: FittedGuide, n: int, seed: int) -> Tensor:
    """n of max(4n, 4096) draws, by stratified resampling with the Pareto-smoothed weights; see `Fit.sample`."""
    prepared, guide = fit.ready(), fit.guide()
    if not guide.has_density:
        raise ValueError(
            f"{fit.name} cannot be resampled: a guide of {fit.guide_name} has no density, hence no importance "
            "weights; call sample without resample, or fit another guide"
        )
    _needs_all_rows(fit, "weights need the density of all rows")
    precise = prepared.precise()
    count = max(_RATIO * n, _FEWEST)
    rows, log_weights = weighted_rows(
        precise.joint().value, guide, fit.leaves(), fit.model_params(), count, seed
    )
    # A draw without a density under the model has no weight.
    logs = np.nan_to_num(log_weights.cpu().numpy(), nan=-np.inf, posinf=-np.inf)
    finite = np.isfinite(logs)
    if not finite.any():
        raise ValueError(
            f"{fit.name} cannot be resampled: none of {count} draws has a density under the model"
        )
    _warn(fit.name, logs[finite], count)
    chosen = _stratified(torch.from_numpy(smoothed_weights(logs)), n, seed)
    return rows[chosen.to(rows.device)].to(prepared.dtype)


def _stratified(weights: Tensor, n: int, seed: int) -> Tensor:
    """Places `(n,)` of draws: one uniform number in each n-th of the weights' sum (Douc and Cappé 2005)."""
    uniforms = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    heights = (torch.arange(n) + uniforms) / n
    return torch.searchsorted(weights.cumsum(0), heights).clamp_max(len(weights) - 1)


def _warn(name: str, log_weights: NDArray[np.float64], count: int) -> None:
    """Warn about weights that cannot be relied on, by their tail or by how few draws carry them."""
    khat, threshold = pareto_khat(log_weights), khat_threshold(count)
    ess, least = effective_sample_size(log_weights), LEAST_ESS / EVALUATION_DRAWS * count
    if khat <= threshold and ess >= least:
        return
    what = (
        f"the importance weights of {count} draws of {name} are worth {ess:.0f} draws of the posterior, fewer than "
        f"{least:.0f}"
        if khat <= threshold
        else f"k-hat of the importance weights of {name} is {khat:.2f}, above {threshold:.2f}"
    )
    warnings.warn(
        f"{what}: resampled draws may miss mass of the posterior too; read SweepResult.verdict(), or "
        "fit a richer guide",
        RuntimeWarning,
        stacklevel=5,
    )


def _needs_all_rows(fit: FittedGuide, why: str) -> None:
    """Refuse a fit of shards, of which only one is in this process. Raises `ValueError`."""
    prepared = fit.ready()
    shards = prepared.setup.shards
    if shards is not None and (shards.count > 1 or prepared.layout.local):
        raise ValueError(
            f"{fit.name} is a fit of {shards.count} shards, and {why}; sample(n) draws what all shards share"
        )
