"""A sweep that died or was interrupted: which one it is, and whether it is still the same sweep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vi_dist.api.planning import PlannedSweep
from vi_dist.errors import SpecError
from vi_dist.report.sweep_directory import JOURNAL, PLAN, SPEC, SUMMARY, find_sweep
from vi_dist.sweep.secret_addresses import read_secrets, secret_values
from vi_dist.sweep.spec import SweepSpec, load_spec


def read_unfinished(
    directory: Path, changes: Mapping[str, Any], *, needs_model: bool = True
) -> tuple[Path, SweepSpec]:
    """The unfinished sweep in a directory, or an output directory's newest if it is unfinished, and its spec.

    `changes` are laid over the spec where they are not None. Raises `SpecError` if there is no sweep, or nothing of it
    is left to do.
    """
    found = find_sweep(directory, PLAN)
    if not (found / JOURNAL).is_dir():
        what = "is over" if (found / SUMMARY).exists() else "has left nothing to go on from"
        raise SpecError(f"this sweep {what}; vi-dist sweep runs one anew", path=found)
    given: dict[str, Any] = {
        **read_secrets(found),
        **{name: value for name, value in changes.items() if value is not None},
    }
    if given.get("executor") == "inline" and "address" not in given:
        given["address"] = None  # the spec's, which is of no use in this process
    return found, load_spec(found / SPEC, given, needs_model=needs_model)


def first_spec(directory: Path, now: SweepSpec) -> SweepSpec:
    """The spec with which the sweep in a directory began, wherever it goes on; a password not kept is that of `now`."""
    secrets = {**secret_values(now.to_dict()), **read_secrets(directory)}
    return load_spec(directory / SPEC, secrets, needs_model=False)


def check_same(planned: PlannedSweep, directory: Path) -> None:
    """Raise `SpecError` if the model or the data have changed since the sweep in the directory began."""
    before = list(json.loads((directory / PLAN).read_text())["configurations"])
    if before[: len(planned.keys)] != list(planned.keys):
        raise SpecError(
            "the model or its data are not those that this sweep began with, so it cannot go on; put them back, "
            "or run vi-dist sweep anew",
            path=directory,
        )
