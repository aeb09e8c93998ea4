"""``vi-dist report`` and ``vi-dist compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from vi_dist.cli.guard import say
from vi_dist.errors import SpecError

COMPARISON = "comparison.html"


def report(directory: Path, output: Path | None, *, run_model: bool) -> None:
    """Write a sweep's report and say where it is."""
    from vi_dist.api.sweep_result import SweepResult
    from vi_dist.report.sweep_directory import REPORT, find_sweep

    say("drawing the report; this takes a few seconds")
    result = SweepResult.load(directory) if run_model else SweepResult(find_sweep(directory))
    _write(output or result.directory / REPORT, result.report())


def compare(directory: Path, keys: Sequence[str], output: Path | None, *, run_model: bool) -> None:
    """Print the rows of chosen configurations and write the report on them."""
    from vi_dist.api.sweep_result import SweepResult
    from vi_dist.report.contenders import chosen
    from vi_dist.report.leaderboard import table_text
    from vi_dist.report.sweep_directory import find_sweep

    if len(set(keys)) < 2:
        raise SpecError("a comparison needs at least two configurations", key="KEY")
    result = SweepResult.load(directory) if run_model else SweepResult(find_sweep(directory))
    frame = result.dataframe()
    wanted = [one.key for one in chosen(frame, keys)]
    typer.echo(table_text(frame[frame["key"].isin(wanted)]))
    _write(output or result.directory / COMPARISON, result.report(wanted))


def _write(file: Path, page: str) -> None:
    """The page as a file. Raises `SpecError` where it cannot be written."""
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise SpecError(f"the report cannot be written: {error.strerror}", path=file) from error
    typer.echo(str(file.absolute()))
