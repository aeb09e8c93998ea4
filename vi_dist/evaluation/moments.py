"""Posterior means and standard deviations of named elements, and how far two sets of them are apart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Moments = Mapping[str, tuple[float, float]]
"""Mean and standard deviation by the element's name: ``mu``, ``beta[3]``, ``L[0,1]``."""


@dataclass(frozen=True)
class Distance:
    """Root mean squares over elements, in the reference's standard deviations.

    Attributes:
        mean: of (mean - reference mean) / reference sd.
        sd: of (sd - reference sd) / reference sd.
        worst: the element whose mean or sd is farthest off.
    """

    mean: float
    sd: float
    worst: str


def moments(
    draws: Mapping[str, ArrayLike], weights: NDArray[np.float64] | None = None
) -> dict[str, tuple[float, float]]:
    """Mean and sd of every element of draws `(n, *shape)` by name, row-major and 0-based.

    Args:
        draws: by the query's name.
        weights: importance weights `(n,)` that add up to one; absent, all draws count alike.
    """
    found = {}
    for name, values in draws.items():
        array: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
        columns = array.reshape(array.shape[0], -1)
        with np.errstate(invalid="ignore"):  # of an infinite draw
            means, sds = _mean_and_sd(columns, weights)
        for place, index in enumerate(itertools.product(*map(range, array.shape[1:]))):
            label = f"{name}[{','.join(map(str, index))}]" if index else name
            found[label] = (float(means[place]), float(sds[place]))
    return found


def _mean_and_sd(
    columns: NDArray[np.float64], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if weights is None:
        return columns.mean(0), columns.std(0, ddof=1)
    means = weights @ columns
    # As n - 1 is for equal weights: the sum of squares falls short by the variance of the mean.
    shortfall = 1 - float((weights**2).sum())
    return means, np.sqrt(weights @ (columns - means) ** 2 / shortfall)


def distance(found: Moments, reference: Moments) -> Distance:
    """How far moments are from a reference, over the elements that both have. Raises `ValueError` if there is none.

    Elements whose reference does not vary are left out; moments that are no numbers are infinitely far apart.
    """
    common = [name for name in reference if name in found and not reference[name][1] <= 0]
    if not common:
        raise ValueError(
            f"the reference names {', '.join([*reference][:3])}, ..., of which the fit has none: "
            f"its elements are {', '.join([*found][:3])}, ..."
        )
    means = [or_infinite((found[name][0] - reference[name][0]) / reference[name][1]) for name in common]
    sds = [or_infinite(found[name][1] / reference[name][1] - 1) for name in common]
    worst = max(zip(means, sds, common, strict=True), key=lambda row: max(abs(row[0]), abs(row[1])))[2]
    return Distance(_rms(means), _rms(sds), worst)


def or_infinite(difference: float) -> float:
    """A difference; infinite where it is not a number, which is no agreement."""
    return math.inf if math.isnan(difference) else difference


def _rms(values: list[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))
