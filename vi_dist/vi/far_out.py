"""Whether a log density falls off far out along a line, fast enough for a finite integral."""

from __future__ import annotations

import math

import torch
from torch import Tensor

DISTANCES = (64.0, 256.0, 2.0**14, 2.0**20, 2.0**30, 2.0**60)
"""Where windows begin, on the scale of coordinates: exp of the second one's end is still a number."""
SLOPE = -1.005
"""A density along a line has a finite integral if it falls off faster than 1/t: log density per log distance."""
_RATIOS = (1.0, 1.0437, 1.1309, 1.2263, 1.3171, 1.4411, 1.5127, 1.6083, 1.7321, 1.7919, 1.8713, 1.9531)
"""A window's points, uneven so that a density that repeats has no period among them."""


def distances(windows: int = len(DISTANCES), points: int = len(_RATIOS)) -> Tensor:
    """Distances `(windows, points)` of the first windows."""
    ratios = torch.tensor(_RATIOS[:: len(_RATIOS) // points][:points], dtype=torch.float64)
    return torch.tensor(DISTANCES[:windows], dtype=torch.float64)[:, None] * ratios


def heights(values: Tensor) -> Tensor:
    """The largest log density of every window `(W, ...)`, of values `(W, points, ...)`; NaN where no value is known.

    Plus infinity counts as unknown: it comes from a number that overflowed.
    """
    known = ~(values.isnan() | (values == math.inf))
    largest = torch.where(known, values, torch.full_like(values, -math.inf)).amax(1)
    return torch.where(known.any(1), largest, torch.full_like(largest, math.nan))


def falls_off(heights: Tensor, strict: bool = False) -> Tensor:
    """Whether log densities with these heights `(W, ...)` of windows have finite integrals, as far as can be seen.

    A window that falls by more than log distance since the first one, and is never surpassed by a later one, shows
    that they do. So does minus infinity, and fewer than two windows with numbers show nothing. Where `strict`, the
    last two windows with numbers decide: what falls at first and is flat further out has no finite integral, but
    numbers that reach an end, as sigmoid does at 1e-308, look the same.
    """
    logs = torch.tensor(DISTANCES, dtype=torch.float64).log()
    flat = heights.reshape(heights.shape[0], -1)
    found = [_falls(column, logs, strict) for column in flat.unbind(1)]
    return torch.tensor(found, dtype=torch.bool).reshape(heights.shape[1:])


def _falls(column: Tensor, logs: Tensor, strict: bool) -> bool:
    numbers = [(float(log), float(height)) for log, height in zip(logs, column, strict=False)]
    numbers = [(log, height) for log, height in numbers if not math.isnan(height)]
    if len(numbers) < 2:
        return True
    if strict:
        (near, before), (far, after) = numbers[-2:]
        return after == -math.inf or (after - before) / (far - near) < SLOPE
    first, height = numbers[0]
    for place, (log, fallen) in enumerate(numbers[1:], 1):
        steep = fallen == -math.inf or fallen - height < SLOPE * (log - first)
        if steep and all(later <= fallen + 1e-6 * (1 + abs(fallen)) for _, later in numbers[place + 1 :]):
            return True
    return False
