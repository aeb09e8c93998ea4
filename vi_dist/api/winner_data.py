"""The winner's draws, predictions and observations as a file that ArviZ reads."""

from __future__ import annotations

import time
from pathlib import Path

from vi_dist.api.fit import Fit

DRAWS = 500
"""How many there are of each."""
# A convenience must not hold up the end of a sweep: seconds of running the model, and predicted numbers (64 MiB).
_SECONDS, _NUMBERS = 10.0, 1 << 24


def write_winner(fit: Fit, path: Path) -> str:
    """Write `Fit.to_inference_data` as netCDF, unless that would take long or much; says why it was not written.

    Raises `ValueError` or `ModelError` for a fit that has no predictions.
    """
    numbers = sum(values.numel() for values in fit.predict(1).values()) * DRAWS
    # The least of three, since the machine may be busy with something else.
    seconds = min(_seconds_of_one(fit) for _ in range(3)) * DRAWS
    if numbers > _NUMBERS or seconds > _SECONDS:
        return f"{DRAWS} predictions would be {numbers} numbers and take about {seconds:.0f} s"
    fit.to_inference_data(DRAWS).to_netcdf(str(path))
    return ""


def _seconds_of_one(fit: Fit) -> float:
    started = time.monotonic()
    fit.predict(1)
    return time.monotonic() - started
