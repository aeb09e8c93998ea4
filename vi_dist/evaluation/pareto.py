"""Pareto k-hat of importance weights (Vehtari et al., arXiv 1507.02646; for VI, Yao et al., 1802.02538).

Written here because importing ArviZ takes seconds in every actor; the tests hold it to ArviZ's answer.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def pareto_khat(log_weights: NDArray[np.float64]) -> float:
    """k-hat of log weights `(N,)`: the shape of a generalised Pareto distribution fitted to the largest weights.

    -inf if the weights are constant up to rounding (the guide is exact), inf if fewer than five are in the tail, NaN
    if one of them is not finite.
    """
    if not np.isfinite(log_weights).all():
        return math.nan
    if np.ptp(log_weights) <= 1e-9 * max(1.0, float(np.abs(log_weights).max())):
        return -math.inf
    n = len(log_weights)
    shifted = np.sort(log_weights - log_weights.max())
    tail_length = math.ceil(min(0.2 * n, 3 * math.sqrt(n)))
    cutoff = max(shifted[-tail_length - 1], math.log(np.finfo(np.float64).tiny))
    tail = shifted[shifted > cutoff]
    if len(tail) < 5:
        return math.inf
    return _pareto_shape(np.exp(tail) - math.exp(cutoff))


def _pareto_shape(excesses: NDArray[np.float64]) -> float:
    """Shape of a generalised Pareto by Zhang and Stephens (Technometrics 2009), with the weak prior of PSIS.

    The posterior mean of b = shape / scale is taken over a grid; excesses `(M,)` are sorted and positive.
    """
    n = len(excesses)
    points = 30 + int(math.sqrt(n))
    quartile = excesses[int(n / 4 + 0.5) - 1]
    grid = 1 / excesses[-1] + (1 - np.sqrt(points / (np.arange(points) + 0.5))) / (3 * quartile)
    shapes = np.log1p(-grid[:, None] * excesses).mean(axis=1)
    likelihood = n * (np.log(-grid / shapes) - shapes - 1)
    weights = np.exp(likelihood - likelihood.max())
    b = float((grid * weights).sum() / weights.sum())
    shape = float(np.log1p(-b * excesses).mean())
    return (n * shape + 5) / (n + 10)


def khat_threshold(samples: int) -> float:
    """The k-hat above which importance weights of so many samples are not to be relied on."""
    return min(1 - 1 / math.log10(samples), 0.7)
