"""``vi-dist doctor``."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import typer

from vi_dist.cli.guard import FAILED


def doctor(directory: Path, *, as_json: bool) -> None:
    """Say which files of a sweep are whole; exits with 1 if one is damaged or missing."""
    from vi_dist.report.health import ASIDE, WHOLE, examine
    from vi_dist.report.sweep_directory import LEADERBOARD, ORIGIN, PLAN, SPEC, find_sweep

    found = find_sweep(directory, LEADERBOARD, PLAN, ORIGIN, SPEC)
    files = examine(found)
    if as_json:
        rows = [{"file": file.name, "state": file.state, "words": file.words} for file in files]
        typer.echo(json.dumps({"directory": str(found), "files": rows}))
    else:
        for file in files:
            if file.ill:
                typer.echo(f"{file.name} {file.words}")
            elif file.state != WHOLE:
                kept = " (damaged once, computed again since; remove it when you like)"
                typer.echo(f"{file.name}: {file.state}{kept if file.state == ASIDE else ''}")
        counted = Counter(file.state for file in files)
        typer.echo(", ".join(f"{number} {state}" for state, number in counted.items()))
    if any(file.ill for file in files):
        raise typer.Exit(FAILED)
