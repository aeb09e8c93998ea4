"""A sweep that died or was interrupted: which one it is, and whether it is still the same sweep."""

from __future__ import annotations

import json
from pathlib import Path

from vi_dist.api.planning import PlannedSweep
from vi_dist.errors import SpecError
from vi_dist.report.sweep_directory import JOURNAL, PLAN, SUMMARY, find_sweep


def find_unfinished(directory: Path) -> Path:
    """The unfinished sweep in a directory, or the newest sweep in an output directory if it is unfinished.

    Raises `SpecError` if there is no sweep, or nothing of it is left to do.
    """
    found = find_sweep(directory, PLAN)
    if not (found / JOURNAL).is_dir():
        what = "is over" if (found / SUMMARY).exists() else "has left nothing to go on from"
        raise SpecError(f"this sweep {what}; vi-dist sweep runs one anew", path=found)
    return found


def check_same(planned: PlannedSweep, directory: Path) -> None:
    """Raise `SpecError` if the model or the data have changed since the sweep in the directory began."""
    before = list(json.loads((directory / PLAN).read_text())["configurations"])
    if before[: len(planned.keys)] != list(planned.keys):
        raise SpecError(
            "the model or its data are not those that this sweep began with, so it cannot go on; put them back, "
            "or run vi-dist sweep anew",
            path=directory,
        )
