"""A sweep that died, was interrupted or is damaged: which one it is, and whether it is still the same sweep."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vi_dist.api.planning import PlannedSweep
from vi_dist.checked_files import read_json, set_aside
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.sweep_files import digest_of_keys
from vi_dist.errors import ModelError, SpecError
from vi_dist.report.health import examine_results
from vi_dist.report.sweep_directory import (
    JOURNAL,
    ORIGIN,
    PLAN,
    SPEC,
    SUMMARY,
    find_sweep,
    read_origin,
    read_spec,
)
from vi_dist.sweep.secret_addresses import secret_values
from vi_dist.sweep.spec import SweepSpec

log = logging.getLogger(__name__)


def read_unfinished(
    directory: Path, changes: Mapping[str, Any], *, needs_model: bool = True
) -> tuple[Path, SweepSpec]:
    """The unfinished or damaged sweep in a directory, or an output directory's newest if it is one, and its spec.

    What is damaged of its plan and results is set aside, since running the sweep over its journal, or from its start,
    writes all of that again.

    Args:
        directory: a sweep's own, or an output directory.
        changes: laid over the spec where they are not None.
        needs_model: whether the model is the file that the spec names; that is then the one of the sweep.

    Raises `SpecError` if there is no sweep, nothing of it is left to do, or its model file has changed.
    """
    found = find_sweep(directory, PLAN, ORIGIN, SPEC)
    ill = [file for file in examine_results(found) if file.ill]
    if not (found / JOURNAL).is_dir() and not ill:
        what = "is over" if (found / SUMMARY).exists() else "has left nothing to go on from"
        raise SpecError(f"this sweep {what}; vi-dist sweep runs one anew", path=found)
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    if given.get("executor") == "inline" and "address" not in given:
        given["address"] = None  # the spec's, which is of no use in this process
    spec = read_spec(found, given)
    if needs_model:
        check_model(spec, found)
    for file in ill:
        path = found / file.name
        kept = f", and is kept as {set_aside(path, found)}" if path.exists() else ""
        log.warning("%s %s%s", path, file.words.partition(";")[0], kept)
    return found, spec


def check_model(spec: SweepSpec, directory: Path) -> None:
    """Raise `SpecError` unless the model file of a sweep's spec is the one that the sweep was made with.

    The file is read and not run. One that lies in the sweep's own directory is refused: what stands there is data.
    """
    if spec.model is None:
        raise SpecError(
            "this sweep's model came from Python; Experiment.resume goes on with it", path=directory
        )
    source = BuildSource(path=spec.model)
    file = Path(source.file or "").absolute()
    if directory.resolve() in file.resolve().parents:
        raise ModelError("a model in a sweep's own directory is not run; put it elsewhere", path=file)
    wanted = read_origin(directory).model
    if wanted and source.file_digest() != wanted:
        raise ModelError(
            f"the model has changed since the sweep in {directory} began; put it back, or run vi-dist sweep anew",
            path=file,
        )


def first_spec(directory: Path, now: SweepSpec) -> SweepSpec:
    """The spec with which the sweep in a directory began, wherever it goes on; a password not kept is that of `now`."""
    return read_spec(directory, known=secret_values(now.to_dict()))


def check_same(planned: PlannedSweep, directory: Path) -> None:
    """Raise `SpecError` if the model or the data have changed since the sweep in the directory began."""
    wanted = read_origin(directory).keys
    if wanted:
        same = wanted == digest_of_keys(planned.keys)
    else:  # of an earlier version
        before = list(read_json(directory / PLAN)["configurations"])
        same = before[: len(planned.keys)] == list(planned.keys)
    if not same:
        raise SpecError(
            "the model or its data are not those that this sweep began with, so it cannot go on; put them back, "
            "or run vi-dist sweep anew",
            path=directory,
        )
