"""``vi-dist``: the command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import atexit
import gc
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
    initialisations = "initialisations"


SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="The sweep's YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a key, e.g. space.seed=[0,1]; repeatable."),
]
Executor = Annotated[ExecutorName | None, typer.Option(help="Where packs run.")]
Address = Annotated[str | None, typer.Option(help="Of a running Ray cluster; without it a local one starts.")]
TrackingUri = Annotated[str | None, typer.Option(help="MLflow's; default: a database in the output folder.")]
StoredUri = Annotated[
    str | None,
    typer.Option("--tracking-uri", help="MLflow's; default: the one that the sweep began with."),
]
OutputDir = Annotated[
    str | None,
    typer.Option(help="Where results go: a folder, or s3://bucket/folder; default: ./vi-dist-out."),
]
Dashboard = Annotated[
    str | None,
    typer.Option(
        help="Of the cluster's dashboard, such as http://head:8265; default: RAY_API_SERVER_ADDRESS."
    ),
]
Page = Annotated[
    Path | None, typer.Option("--output", metavar="FILE.html", help="Default: in the sweep's directory.")
]
Champion = Annotated[
    bool,
    typer.Option(
        "--champion",
        help="Give the winner the alias champion in MLflow, whoever has it and however good it is.",
    ),
]
RunModel = Annotated[
    bool,
    typer.Option(
        "--run-model", help="Also run the sweep's model file, for draws that the directory alone cannot give."
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and more of the log.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="A sweep's directory, or an output directory.")
]


@app.command()
@guarded
def sweep(
    spec: SpecFile,
    overrides: Overrides = None,
    executor: Executor = None,
    address: Address = None,
    tracking_uri: TrackingUri = None,
    output_dir: OutputDir = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show configurations, packs and memory; run nothing.")
    ] = False,
    champion: Champion = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fit every configuration of a spec and print the leaderboard."""
    from vi_dist.cli.sweep import sweep as run

    chosen: dict[str, Any] = {
        "executor": None if executor is None else executor.value,
        "address": address,
        "tracking_uri": tracking_uri,
        "output_dir": _absolute(output_dir),
    }
    run(spec, overrides or [], chosen, dry_run=dry_run, champion=champion, as_json=as_json, debug=debug)


@app.command()
@guarded
def resume(
    directory: Directory,
    executor: Executor = None,
    address: Address = None,
    champion: Champion = False,
    tracking_uri: StoredUri = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Go on with a sweep that died or was interrupted; the result is that of the undisturbed one."""
    from vi_dist.cli.sweep import resume as go_on

    chosen = {
        "executor": None if executor is None else executor.value,
        "address": address,
        "tracking_uri": tracking_uri,
    }
    go_on(directory, chosen, champion=champion, as_json=as_json, debug=debug)


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


@app.command()
@guarded
def doctor(directory: Directory, as_json: Json = False, debug: Debug = False) -> None:
    """Say which files of a sweep are whole, damaged, missing or set aside; exits with 1 if something has to be done."""
    from vi_dist.cli.doctor import doctor as examine

    examine(directory, as_json=as_json)


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
    run: Annotated[
        str | None, typer.Option(metavar="KEY", help="Of a row of the leaderboard, or its name or rank.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Serve a sweep's MLflow pages and print the URL of the comparison, or of one run; Ctrl-C ends it."""
    from vi_dist.cli.look import ui as serve

    serve(directory, port, run)


@app.command()
@guarded
def report(
    directory: Directory, output: Page = None, run_model: RunModel = False, debug: Debug = False
) -> None:
    """Write a sweep's report, one HTML file: leaderboard, verdict, curves, hyperparameters, k-hat, marginals."""
    from vi_dist.cli.report import report as write

    write(directory, output, run_model=run_model)


@app.command()
@guarded
def compare(
    directory: Directory,
    keys: Annotated[
        list[str], typer.Argument(metavar="KEY...", help="Keys, names or ranks of the leaderboard.")
    ],
    output: Page = None,
    run_model: RunModel = False,
    debug: Debug = False,
) -> None:
    """Write the same report for chosen configurations, laid over one another."""
    from vi_dist.cli.report import compare as write

    write(directory, keys, output, run_model=run_model)


@app.command()
@guarded
def submit(
    spec: SpecFile,
    overrides: Overrides = None,
    address: Dashboard = None,
    tracking_uri: TrackingUri = None,
    output_dir: OutputDir = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print the job's log; Ctrl-C leaves the job alone.")
    ] = False,
    champion: Champion = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Send a sweep to a Ray cluster as a job, with its files and this vi_dist, and print the job's id."""
    from vi_dist.cli.jobs import submit as send

    chosen = {"tracking_uri": tracking_uri, "output_dir": _absolute(output_dir)}
    send(spec, overrides or [], chosen, address, follow=follow, champion=champion, as_json=as_json)


@app.command()
@guarded
def status(
    job_id: Annotated[str | None, typer.Argument(metavar="ID", help="Default: all of them.")] = None,
    address: Dashboard = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the sweeps that were submitted to a cluster, or one of them with the end of its log."""
    from vi_dist.cli.jobs import status as show

    show(job_id, address, as_json)


@app.command()
@guarded
def stop(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="As submit printed it.")],
    address: Dashboard = None,
    debug: Debug = False,
) -> None:
    """Stop a submitted sweep: what has finished is kept, the runs are closed."""
    from vi_dist.cli.jobs import stop as end

    end(job_id, address)


@app.command()
@guarded
def sync(directory: Directory, tracking_uri: StoredUri = None, debug: Debug = False) -> None:
    """Send to MLflow what a sweep left behind, and close its runs."""
    from vi_dist.cli.look import sync as send

    send(directory, tracking_uri)


def _absolute(folder: str | None) -> str | None:
    """A folder from here, whatever folder the spec is in; an address as it is."""
    return folder if folder is None or "://" in folder else str(Path(folder).absolute())


def main() -> None:
    """The entry point."""
    # The end of the process frees everything: Python need not look first at what of it is garbage.
    atexit.register(gc.freeze)
    app()
