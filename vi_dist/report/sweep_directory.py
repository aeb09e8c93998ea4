"""What stands where in a sweep's directory, and reading what needs no model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from vi_dist.checked_files import read_checked, read_json, reading
from vi_dist.errors import DamagedFile, SpecError
from vi_dist.report.rungs import rung_table
from vi_dist.report.table_file import read_frame
from vi_dist.sweep.secret_addresses import read_secrets
from vi_dist.sweep.spec import SweepSpec, make_spec
from vi_dist.sweep.yaml_file import parse_yaml

SPEC, PLAN, LEADERBOARD, CURVES = "spec.resolved.yaml", "plan.json", "leaderboard.parquet", "curves.parquet"
SUMMARY, GUIDES, PACKS, SPOOL, JOURNAL = "summary.json", "guides", "packs", "spool", "journal"
RUNGS, ORIGIN = "rungs.parquet", "origin.json"
MENDING = "vi-dist resume on the sweep's directory computes again what is damaged"
"""What to do about a file of a sweep that is not whole."""
ANEW = "vi-dist sweep with the spec that it came from runs it anew"
"""What to do where nothing is left to go by."""
FITS, REPORT, WINNER = "fits", "report.html", "winner.nc"


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """What a sweep was made from, kept twice, so that it can be run again though one file is damaged.

    Attributes:
        spec: the text of `SPEC`.
        model: SHA-256 of the model's file; empty where the model came from Python.
        keys: SHA-256 of the keys of its first configurations, which know the data and the code.
    """

    spec: str = ""
    model: str = ""
    keys: str = ""


@dataclass(frozen=True)
class Summary:
    """How a sweep as a whole went.

    Attributes:
        interrupted: whether Ctrl-C ended it.
        timings: seconds of the wall time by part.
        tracking_error: what kept results from MLflow; None if nothing did.
        column_steps: steps times columns that packs took, and that they would have taken without rungs.
        verdict: on the winner, a sentence; empty where there is none.
        champion: which version of the registered model the winner is, and whether it is its champion, a sentence.
        statuses: how many configurations ended how.
        failures: why configurations diverged or failed, a line for each kind of reason.
    """

    interrupted: bool = False
    timings: dict[str, float] = field(default_factory=dict)
    tracking_error: str | None = None
    verdict: str = ""
    column_steps: tuple[int, int] = (0, 0)
    champion: str = ""
    statuses: dict[str, int] = field(default_factory=dict)
    failures: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain data."""
        return asdict(self)


def find_sweep(directory: Path, *holding: str) -> Path:
    """The sweep in a directory: the directory itself, or the newest sweep inside an output directory.

    An absolute path, since other processes are told of it. A sweep holds one of the named files, its leaderboard if
    none is named. Raises `SpecError` if there is none, and `DamagedFile` for a sweep's own directory without them.
    """
    directory, wanted = directory.absolute(), holding or (LEADERBOARD,)
    if any((directory / name).is_file() for name in wanted):
        return directory
    files = [path for name in wanted for path in directory.glob(f"*/{name}")]
    if files:
        return max(files, key=lambda path: path.stat().st_mtime).parent
    if any((directory / name).exists() for name in (SPEC, PLAN, ORIGIN, LEADERBOARD, JOURNAL)):
        missing = "is missing: nothing has ended yet, or it was removed"
        raise DamagedFile(missing, path=directory / wanted[0], cure=MENDING)
    what = "there is no sweep here" if directory.is_dir() else "there is no such directory"
    raise SpecError(f"{what}; give the output directory of vi-dist sweep, or a sweep's own", path=directory)


def read_origin(directory: Path) -> Origin:
    """What a sweep was made from, by whichever of the two files that keep it is whole.

    Raises `DamagedFile` if neither is.
    """
    fault: DamagedFile | None = None
    for name, key in ((ORIGIN, None), (PLAN, "origin")):
        file = directory / name
        try:
            data = read_json(file)
            with reading(file, "a sweep's origin"):
                return Origin(**(data if key is None else data.get(key, {})))
        except FileNotFoundError:
            continue
        except DamagedFile as error:
            log.warning("%s", error)
            fault = error
    raise fault or DamagedFile("is missing", path=directory / ORIGIN, cure=ANEW)


def read_spec_data(directory: Path) -> dict[str, Any]:
    """A sweep's spec with every default, as plain data; where its file is damaged, from the sweep's `Origin`.

    Raises `DamagedFile` if that is damaged too.
    """
    file = directory / SPEC
    try:
        content = read_checked(file)
        with reading(file, "YAML"):
            return dict(parse_yaml(content.decode()))
    except (FileNotFoundError, DamagedFile) as error:
        fault = error if isinstance(error, DamagedFile) else DamagedFile("is missing", path=file)
    text = _origin_spec(directory)
    if not text:
        raise DamagedFile(fault.message, path=file, cure=ANEW)
    log.warning("%s; its copy in %s is read instead", fault, ORIGIN)
    return dict(parse_yaml(text))


def read_spec(
    directory: Path,
    changes: Mapping[str, object] | None = None,
    known: Mapping[str, object] | None = None,
) -> SweepSpec:
    """A sweep's spec, with `changes` laid over it, and passwords that are `known` where the sweep kept none itself.

    Raises as `read_spec_data`, and `SpecError` for a change.
    """
    laid_over = {**(known or {}), **read_secrets(directory), **(changes or {})}
    return make_spec(read_spec_data(directory), path=directory / SPEC, overrides=laid_over)


def _origin_spec(directory: Path) -> str:
    """The spec's text in the sweep's origin; empty where that is damaged."""
    try:
        return read_origin(directory).spec
    except DamagedFile:
        return ""


def read_leaderboard(directory: Path) -> pd.DataFrame:
    """A sweep's leaderboard in rank order."""
    return read_frame(directory / LEADERBOARD, MENDING)


def read_curves(directory: Path) -> pd.DataFrame:
    """Every point of every curve of a sweep, long: configuration (its key), step, metric, value."""
    return read_frame(directory / CURVES, MENDING).astype({"configuration": "str", "metric": "str"})


def read_rungs(directory: Path) -> pd.DataFrame:
    """Everything that was ranked at a sweep's rungs (`report.rungs`); empty where it has none."""
    file = directory / RUNGS
    return read_frame(file, MENDING) if file.exists() else rung_table(())


def read_summary(directory: Path) -> Summary:
    """How a sweep went; of one that is still on its way, or was killed, nothing is known."""
    file = directory / SUMMARY
    if not file.exists():
        return Summary()
    fields = read_json(file, MENDING)
    with reading(file, "a summary", MENDING):
        return Summary(**fields)
