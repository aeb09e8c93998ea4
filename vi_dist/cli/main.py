"""``vi-dist``: the command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vi_dist.cli.guard import guarded

app = typer.Typer(
    help="Choose a variational approximation: fit one model under many configurations, rank them, keep everything.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class ExecutorName(StrEnum):
    """Where packs run."""

    ray = "ray"
    inline = "inline"


class Table(StrEnum):
    """What `vi-dist list` lists."""

    guides = "guides"
    divergences = "divergences"
    estimators = "estimators"
    optimizers = "optimizers"
    schedules = "schedules"


Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and more of the log.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="A sweep's directory, or an output directory.")
]


@app.command()
@guarded
def sweep(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The sweep's YAML file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a key, e.g. space.seed=[0,1]; repeatable."),
    ] = None,
    executor: Annotated[ExecutorName | None, typer.Option(help="Where packs run.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Of a running Ray cluster; without it a local one starts.")
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow's; default: a database in the output folder.")
    ] = None,
    output_dir: Annotated[Path | None, typer.Option(help="Where results go; default: ./vi-dist-out.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show configurations, packs and memory; run nothing.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fit every configuration of a spec and print the leaderboard."""
    from vi_dist.cli.sweep import sweep as run

    chosen: dict[str, Any] = {
        "executor": None if executor is None else executor.value,
        "address": address,
        "tracking_uri": tracking_uri,
        "output_dir": None if output_dir is None else str(output_dir.absolute()),
    }
    run(spec, overrides or [], chosen, dry_run=dry_run, as_json=as_json, debug=debug)


@app.command()
@guarded
def leaderboard(
    directory: Directory,
    top: Annotated[int | None, typer.Option(min=1, help="How many rows; default: all.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print the leaderboard of a sweep."""
    from vi_dist.cli.look import leaderboard as show

    show(directory, top, as_json)


@app.command(name="list")
@guarded
def list_(
    table: Annotated[Table, typer.Argument(help="What to list.")], as_json: Json = False, debug: Debug = False
) -> None:
    """List what a spec can name, with arguments and one line about each."""
    from vi_dist.cli.look import list_entries

    list_entries(table.value, as_json)


@app.command()
@guarded
def ui(
    directory: Directory,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    debug: Debug = False,
) -> None:
    """Serve a sweep's MLflow pages on this machine and print the URL of the comparison; Ctrl-C ends it."""
    from vi_dist.cli.look import ui as serve

    serve(directory, port)


@app.command()
@guarded
def sync(directory: Directory, debug: Debug = False) -> None:
    """Send to MLflow what a sweep left behind, and close its runs."""
    from vi_dist.cli.look import sync as send

    send(directory)


def main() -> None:
    """The entry point."""
    app()
