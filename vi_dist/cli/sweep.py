"""``vi-dist sweep``: run a spec, print its leaderboard."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from vi_dist.cli.guard import FAILED, INTERRUPTED, STARTED, say
from vi_dist.cli.job import RESUME
from vi_dist.redaction import RedactingFormatter
from vi_dist.sweep.overrides import parse_overrides
from vi_dist.sweep.spec import SweepSpec, load_spec
from vi_dist.uncollected import uncollected

TOP = 20


def sweep(
    path: Path,
    overrides: Sequence[str],
    chosen: Mapping[str, Any],
    *,
    dry_run: bool,
    champion: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Run the sweep that a file describes. Exits with 1 if nothing finished and with 130 after Ctrl-C."""
    _log_to_stderr(debug)
    # The file is read before anything heavy is imported, so that a mistake in it is told at once.
    changes = {
        **parse_overrides(overrides),
        **{name: value for name, value in chosen.items() if value is not None},
    }
    spec = load_spec(path, changes)
    if dry_run:
        from vi_dist.cli.dry_run import show_plan

        show_plan(spec, as_json)
        return
    _run(spec, as_json, champion)


def resume(directory: Path, chosen: Mapping[str, Any], *, champion: bool, as_json: bool, debug: bool) -> None:
    """Go on with a sweep that died or was interrupted; exits as `sweep` does."""
    _log_to_stderr(debug)
    from vi_dist.api.resuming import read_unfinished

    found, spec = read_unfinished(directory, chosen)
    say(f"the model is {spec.model}, unchanged since the sweep began")
    _run(spec, as_json, champion, found)


def _run(spec: SweepSpec, as_json: bool, champion: bool, resumed: Path | None = None) -> None:
    from vi_dist.cli.progress import ProgressLine
    from vi_dist.cluster.executors import make_executor

    say(f"{spec.name}: starting" if resumed is None else f"{spec.name}: going on in {resumed}")
    with ProgressLine() as line:
        threads = None if "OMP_NUM_THREADS" in os.environ else os.cpu_count()
        executor = make_executor(spec)
        executor.prepare()  # before torch is imported, which takes as long as Ray does
        with uncollected():
            import torch

            from vi_dist.api.sweeping import run_sweep
            from vi_dist.cluster.build_source import BuildSource
            from vi_dist.cluster.timings import Timings

        if threads is not None:  # what Ray's processes are told, torch may have read here
            torch.set_num_threads(threads)
        result = run_sweep(
            BuildSource(path=spec.model or ""),
            spec.data,
            spec,
            progress=line,
            timings=Timings(began=STARTED),
            resumed=resumed,
            executor=executor,
            aside=_imports_for_the_end(),
            champion=champion,
        )
    from vi_dist.report.leaderboard import best

    frame = result.dataframe()
    _tell(result)
    _print(result, frame, as_json)
    if result.interrupted:
        say(f"{os.environ.get(RESUME, 'vi-dist resume')} {result.directory}  takes the steps that are left")
        raise typer.Exit(INTERRUPTED)
    if best(frame) is None:
        raise typer.Exit(FAILED)


def _imports_for_the_end() -> Iterator[None]:
    """Two seconds of imports, for a process that waits for its workers.

    Not in a thread: two threads that import one package whose modules import each other break it for the whole process.
    """
    # ArviZ's import tells of its own future.
    warnings.filterwarnings("ignore", category=FutureWarning, module="arviz")
    for name in ("scipy.stats", "matplotlib.pyplot", "arviz", "torch._dynamo", "vi_dist.report.page"):
        with suppress(ImportError), uncollected():  # it will be met again where it matters
            import_module(name)
        yield


def _tell(result: Any) -> None:
    """What is worth knowing beside the result, on stderr."""
    from vi_dist.report.leaderboard import failures, not_asked, unevaluated
    from vi_dist.report.rungs import lines
    from vi_dist.report.sweep_directory import read_summary

    timings = result.timings
    shares = ", ".join(f"{name} {value:.1f}" for name, value in timings.items() if name != "wall")
    say(f"wall time {timings['wall']:.1f} s: {shares}")
    copied = result.spec.output_dir if "://" in (result.spec.output_dir or "") else None
    say(
        f"results: {copied.rstrip('/')}/{result.directory.name}" if copied else f"results: {result.directory}"
    )
    summary = read_summary(result.directory)
    frame = result.dataframe()
    cut_off = (*unevaluated(frame), *not_asked(frame, result.spec.configurations))
    for line in (*failures(frame), *cut_off, *lines(result.rungs(), frame, summary.column_steps)):
        say(line)
    if verdict := summary.verdict:
        say(f"verdict: {verdict}")
    if summary.champion:
        say(f"champion: {summary.champion}")
    if result.tracking_error:
        say(f"tracking: {result.tracking_error}; vi-dist sync {result.directory} sends what is left")


def _print(result: Any, frame: Any, as_json: bool) -> None:
    from vi_dist.report.leaderboard import best_line, counts, table_text
    from vi_dist.tracking.ui import where_to_look

    look = where_to_look(result.directory)
    if as_json:
        typer.echo(json.dumps(_as_data(result, frame, look)))
        return
    typer.echo(counts(frame))
    typer.echo(table_text(frame, TOP))
    typer.echo(best_line(frame))
    typer.echo(f"ui: {look}")


def _as_data(result: Any, frame: Any, look: str) -> dict[str, Any]:
    from vi_dist.report.leaderboard import best, records
    from vi_dist.report.sweep_directory import read_summary

    rows, winner, summary = records(frame), best(frame), read_summary(result.directory)
    return {
        "best": None if winner is None else next(row for row in rows if row["key"] == winner["key"]),
        "leaderboard": rows,
        "ui": look,
        "directory": str(result.directory),
        "output_dir": str(result.output_dir),
        "tracking_uri": result.tracking_uri,
        "experiment_id": result.experiment_id,
        "parent_run_id": result.parent_run_id,
        "interrupted": result.interrupted,
        "verdict": summary.verdict,
        "champion": summary.champion,
        "timings": result.timings,
    }


def _log_to_stderr(debug: bool) -> None:
    """Our own log at warnings, or all of it; other packages' at errors."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.ERROR)
    logging.getLogger("vi_dist").setLevel(logging.DEBUG if debug else logging.WARNING)
    # The driver says once why a model runs as a loop; every trace of it would say so again.
    logging.getLogger("vi_dist.vi.trace").setLevel(logging.ERROR)
