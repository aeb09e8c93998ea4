"""What stands where in a sweep's directory, and reading what needs no model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd

from vi_dist.errors import SpecError
from vi_dist.report.rungs import rung_table

SPEC, PLAN, LEADERBOARD, CURVES = "spec.resolved.yaml", "plan.json", "leaderboard.parquet", "curves.parquet"
SUMMARY, GUIDES, PACKS, SPOOL, JOURNAL = "summary.json", "guides", "packs", "spool", "journal"
RUNGS = "rungs.parquet"
FITS, REPORT, WINNER = "fits", "report.html", "winner.nc"


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

    def to_json(self) -> str:
        """The summary as a file holds it."""
        return json.dumps(asdict(self), indent=1)


def find_sweep(directory: Path, holding: str = LEADERBOARD) -> Path:
    """The sweep in a directory: the directory itself, or the newest sweep inside an output directory.

    An absolute path, since other processes are told of it. Raises `SpecError` if there is none that holds that file.
    """
    directory = directory.absolute()
    if (directory / holding).is_file():
        return directory
    found = [path.parent for path in directory.glob(f"*/{holding}")]
    if not found:
        what = "there is no sweep here" if directory.is_dir() else "there is no such directory"
        raise SpecError(
            f"{what}; give the output directory of vi-dist sweep, or a sweep's own", path=directory
        )
    return max(found, key=lambda path: (path / holding).stat().st_mtime)


def read_leaderboard(directory: Path) -> pd.DataFrame:
    """A sweep's leaderboard in rank order."""
    return pd.read_parquet(directory / LEADERBOARD)


def read_curves(directory: Path) -> pd.DataFrame:
    """Every point of every curve of a sweep, long: configuration (its key), step, metric, value."""
    return pd.read_parquet(directory / CURVES).astype({"configuration": "str", "metric": "str"})


def read_rungs(directory: Path) -> pd.DataFrame:
    """Everything that was ranked at a sweep's rungs (`report.rungs`); empty where it has none."""
    file = directory / RUNGS
    return pd.read_parquet(file) if file.exists() else rung_table(())


def read_summary(directory: Path) -> Summary:
    """How a sweep went; of one that is still on its way, or was killed, nothing is known."""
    file = directory / SUMMARY
    return Summary(**json.loads(file.read_text())) if file.exists() else Summary()
