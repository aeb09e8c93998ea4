"""``vi-dist leaderboard``, ``list``, ``ui`` and ``sync``."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from vi_dist.cli.guard import FAILED, say
from vi_dist.errors import SpecError

_TABLES = {
    "guides": "vi_dist.vi.guides.table:GUIDES",
    "divergences": "vi_dist.vi.divergences:DIVERGENCES",
    "estimators": "vi_dist.vi.estimators:ESTIMATORS",
    "optimizers": "vi_dist.vi.optimizers:OPTIMIZERS",
    "schedules": "vi_dist.vi.schedules:SCHEDULES",
    "initialisations": "vi_dist.vi.initialisation:INITIALISATIONS",
}


def leaderboard(directory: Path, top: int | None, as_json: bool) -> None:
    """Print a sweep's leaderboard."""
    from vi_dist.report.leaderboard import best_line, counts, failures, records, table_text, unevaluated
    from vi_dist.report.sweep_directory import find_sweep, read_leaderboard, read_summary

    found = find_sweep(directory)
    frame, summary = read_leaderboard(found), read_summary(found)
    if as_json:
        rows = records(frame if top is None else frame.head(top))
        data = {"leaderboard": rows, "directory": str(found.absolute()), "interrupted": summary.interrupted}
        told = {"verdict": summary.verdict, "champion": summary.champion}
        typer.echo(json.dumps({**data, "timings": summary.timings, **told}))
        return
    typer.echo(counts(frame))
    typer.echo(table_text(frame, top))
    for line in (*failures(frame), *unevaluated(frame)):
        say(line)
    if summary.verdict:
        say(f"verdict: {summary.verdict}")
    if summary.champion:
        say(f"champion: {summary.champion}")
    typer.echo(best_line(frame))


def list_entries(table: str, as_json: bool) -> None:
    """Print a table's entries: name, arguments with ranges and defaults, one line about each."""
    module, name = _TABLES[table].split(":")
    entries = getattr(import_module(module), name)
    if as_json:
        data = {
            entry.name: {"description": entry.description, "arguments": _arguments(entry)}
            for entry in entries.values()
        }
        typer.echo(json.dumps(data))
        return
    signatures = {name: _signature(entry) for name, entry in entries.items()}
    width = max(map(len, signatures.values()))
    for name, entry in entries.items():
        typer.echo(f"{signatures[name]:{width}}  {entry.description}")
        for argument, text in _arguments(entry).items():
            typer.echo(f"{'':{width}}    {argument}: {text}")
    if table == "estimators":
        typer.echo(f"{'auto':{width}}  picked by guide and divergence")


def ui(directory: Path, port: int, run: str | None) -> None:
    """Serve a sweep's pages until Ctrl-C."""
    from vi_dist.tracking.ui import serve

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or the server would stay behind
    key = None if run is None else _key(directory, run)
    say("starting MLflow's pages; this takes a few seconds")
    try:
        with serve(directory, port) as server:
            typer.echo(server.url if key is None else _run_url(directory, key, server.base))
            if server.process is not None:
                say("Ctrl-C ends the server")
                server.wait()
    except FileNotFoundError as error:
        raise SpecError(str(error), path=directory) from error
    except KeyboardInterrupt:
        say("the server has ended")


def _key(directory: Path, run: str) -> str:
    """The key of a row of the leaderboard, which its name or its rank may stand for."""
    from vi_dist.report.contenders import chosen
    from vi_dist.report.sweep_directory import find_sweep, read_leaderboard

    return chosen(read_leaderboard(find_sweep(directory)), [run])[0].key


def _run_url(directory: Path, key: str, base: str) -> str:
    from vi_dist.report.links import run_urls
    from vi_dist.report.sweep_directory import find_sweep

    urls = run_urls(find_sweep(directory), base)
    if key not in urls:
        raise SpecError(
            f"the run of {key} is not in MLflow yet; vi-dist sync sends what is left", path=directory
        )
    return urls[key]


def sync(directory: Path, tracking_uri: str | None = None) -> None:
    """Send what is left in a spool; exits with 1 while something stays there."""
    from vi_dist.tracking.sync import sync as send

    try:
        summary = send(directory, tracking_uri=tracking_uri)
    except FileNotFoundError as error:
        raise SpecError(str(error), path=directory) from error
    if summary.pending:
        say(f"{summary.pending} records are left: {summary.error or 'the store is slow; try again'}")
        raise typer.Exit(FAILED)
    if summary.error:
        say(f"all else is in {summary.tracking_uri}; {summary.error}")
        raise typer.Exit(FAILED)
    if summary.champion:
        say(f"champion: {summary.champion}")
    typer.echo(f"everything is in {summary.tracking_uri}")


def _signature(entry: Any) -> str:
    names = ", ".join(entry.arguments)
    return f"{entry.name}({names})" if names else str(entry.name)


def _arguments(entry: Any) -> Mapping[str, str]:
    """An entry's arguments in words."""
    from vi_dist.sweep.values import expected, show
    from vi_dist.vi.table import REQUIRED

    texts = {}
    for name, argument in entry.arguments.items():
        default = "required" if argument.default is REQUIRED else f"default {show(argument.default)}"
        about = f"; {argument.description}" if argument.description else ""
        texts[name] = f"{expected(argument)}; {default}{about}"
    return texts
