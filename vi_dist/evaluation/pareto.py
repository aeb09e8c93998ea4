"""Pareto k-hat of importance weights (Vehtari et al., arXiv 1507.02646; for VI, Yao et al., 1802.02538).

Written here because importing ArviZ takes seconds in every actor; the tests hold it to ArviZ's answer.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_SHORTEST = 5  # weights in a tail that a Pareto can be fitted to


def pareto_khat(log_weights: NDArray[np.float64]) -> float:
    """k-hat of log weights `(N,)`: the shape of a generalised Pareto distribution fitted to the largest weights.

    -inf if the weights are constant up to rounding (the guide is exact), inf if fewer than five are in the tail, NaN
    if one of them is not finite.
    """
    if not np.isfinite(log_weights).all():
        return math.nan
    # Up to rounding; but differences that matter are never taken for rounding, however large the log weights.
    if np.ptp(log_weights) <= min(1e-9 * max(1.0, float(np.abs(log_weights).max())), 1e-3):
        return -math.inf
    tail, cutoff = _tail(np.sort(log_weights - log_weights.max()))
    if len(tail) < _SHORTEST:
        return math.inf
    return _pareto_fit(np.exp(tail) - math.exp(cutoff))[0]


def smoothed_weights(log_weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights `(N,)` that add up to one, the largest replaced by the order statistics of the fitted Pareto.

    They lower the variance of raw weights' averages at a small bias (Pareto-smoothed importance sampling). Where no
    Pareto can be fitted they are the raw ones.
    """
    shifted = log_weights - log_weights.max()
    order = np.argsort(shifted, kind="stable")
    tail, cutoff = _tail(shifted[order])
    if len(tail) >= _SHORTEST and np.ptp(shifted) > 1e-9:
        shape, scale = _pareto_fit(np.exp(tail) - math.exp(cutoff))
        quantiles = np.log1p(-(np.arange(len(tail)) + 0.5) / len(tail))
        with np.errstate(over="ignore"):  # an infinite excess is a weight of 1, the largest there is
            excesses = scale * (np.expm1(-shape * quantiles) / shape if shape else -quantiles)
        shifted[order[-len(tail) :]] = np.minimum(np.log(excesses + math.exp(cutoff)), 0.0)
    weights: NDArray[np.float64] = np.exp(shifted)
    return weights / weights.sum()


def effective_sample_size(log_weights: NDArray[np.float64]) -> float:
    """How many draws of the posterior the smoothed weights of draws `(N,)` are worth: one over their sum of squares.

    Kong's (1992): a weighted mean has about the variance of a mean over so many draws of the posterior. NaN if a log
    weight is not finite.
    """
    if not np.isfinite(log_weights).all():
        return math.nan
    return 1 / float((smoothed_weights(log_weights) ** 2).sum())


def _tail(ascending: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The largest of ascending log weights whose maximum is 0, and the cutoff below them."""
    n = len(ascending)
    length = math.ceil(min(0.2 * n, 3 * math.sqrt(n)))
    cutoff = max(float(ascending[-length - 1]), math.log(np.finfo(np.float64).tiny))
    return ascending[ascending > cutoff], cutoff


def _pareto_fit(excesses: NDArray[np.float64]) -> tuple[float, float]:
    """Shape and scale of a generalised Pareto by Zhang and Stephens (Technometrics 2009), with the weak prior of PSIS.

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
    return (n * shape + 5) / (n + 10), -shape / b


def khat_threshold(samples: int) -> float:
    """The k-hat above which importance weights of so many samples are not to be relied on."""
    return min(1 - 1 / math.log10(samples), 0.7)
