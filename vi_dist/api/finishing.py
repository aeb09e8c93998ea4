"""After the last pack: leaderboard, curves and the best guides, on disk and in MLflow."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence

import pandas as pd

from vi_dist.api.fit import Fit
from vi_dist.api.rows import row_of
from vi_dist.api.sweep_result import SweepResult
from vi_dist.cluster.interrupts import Interrupts
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.recorder import Recorder
from vi_dist.cluster.sweep_files import SweepFiles
from vi_dist.report.leaderboard import SHOWN, best, best_line, counts, leaderboard
from vi_dist.report.sweep_directory import Summary
from vi_dist.sweep.configuration import Configuration
from vi_dist.tracking.note import leaderboard_note
from vi_dist.tracking.records import Artifact, GuideLogged, Metrics, Note, SweepEnded, now_ms

log = logging.getLogger(__name__)

BEST_GUIDES = 3
"""How many guides become MLflow models."""


def finish(
    result: SweepResult,
    configurations: Sequence[Configuration],
    runs: Sequence[PackRun],
    files: SweepFiles,
    recorder: Recorder,
    interrupts: Interrupts,
) -> None:
    """Write the sweep's tables, tell MLflow, and wait until it knows."""
    rows = _rows(configurations, runs, files.keys)
    table = files.write_leaderboard(leaderboard(rows.values()))
    curves = files.write_curves(
        {
            files.keys[member]: curve
            for run in runs
            for member, curve in zip(run.members, run.curves(), strict=True)
        }
    )
    frame = result.dataframe()
    with recorder.timings.tracked():
        _log_guides(result, frame, files, recorder, configurations)
        for path, shown in ((table, True), (curves, False)):
            recorder.write(Artifact(str(path), table=shown))
        recorder.write(Note(leaderboard_note(frame.to_dict("records"), SHOWN, _heading(frame))))  # type: ignore[arg-type]
        _log_timings(recorder, files, frame)
        recorder.write(_ended(frame, interrupts.requested))
        summary = recorder.tracker.close()
    for key, run_id in summary.run_ids.items():
        if key in rows:
            rows[key]["run_id"] = run_id
    files.write_leaderboard(leaderboard(rows.values()))
    files.write_summary(Summary(interrupts.requested, recorder.timings.seconds(), summary.error))


def _rows(
    configurations: Sequence[Configuration], runs: Sequence[PackRun], keys: Sequence[str]
) -> dict[str, dict[str, object]]:
    """Rows of the leaderboard by key, in the order of the sweep's list."""
    outcomes = {
        member: outcome
        for run in runs
        for member, outcome in zip(run.members, run.outcomes or (), strict=True)
    }
    return {
        keys[place]: row_of(keys[place], configurations[place], outcomes[place]) for place in sorted(outcomes)
    }


def _log_guides(
    result: SweepResult,
    frame: pd.DataFrame,
    files: SweepFiles,
    recorder: Recorder,
    configurations: Sequence[Configuration],
) -> None:
    """Save the best few fits whole and have them logged as models; the winner becomes the sweep's champion."""
    finished = frame[frame["status"] == "finished"].head(BEST_GUIDES)
    for place, row in enumerate(finished.to_dict("records")):
        directory = files.directory / "fits" / str(row["key"])
        try:
            fit = result.get(str(row["key"]))
            fit.save(directory)
            columns = _columns(fit)
        except Exception as error:  # a guide that cannot be exported must not cost the sweep its results
            log.warning("the guide of %s is not kept as a model: %s", row["name"], error)
            continue
        register = result.spec.name if place == 0 else ""
        recorder.write(
            GuideLogged(str(row["key"]), str(directory), model_name(str(row["name"])), columns, register)
        )


def _columns(fit: Fit) -> list[str]:
    """Names of the columns that the model's draws have."""
    from vi_dist.tracking.draws_table import column_names

    draw = fit.sample(1)
    return [name for query, values in draw.items() for name in column_names(query, tuple(values.shape[1:]))]


def model_name(name: str) -> str:
    """A configuration's name without what MLflow forbids in names of models.

    >>> model_name("full_rank-amari0.5-lr0.01-s0")
    'full_rank-amari0_5-lr0_01-s0'
    """
    return re.sub(r"[^\w-]+", "_", name, flags=re.ASCII)


def _log_timings(recorder: Recorder, files: SweepFiles, frame: pd.DataFrame) -> None:
    """Where the time went, as metrics of the sweep's run."""
    seconds: Mapping[str, float] = recorder.timings.seconds()
    now = now_ms()
    points = [(f"wall/{name}", 0, value, now) for name, value in seconds.items()]
    points += [
        (f"share/{name}", 0, value / seconds["wall"], now)
        for name, value in seconds.items()
        if name != "wall"
    ]
    points.append(("final/configurations", 0, float((frame["status"] == "finished").sum()), now))
    recorder.write(Metrics(None, points))


def _heading(frame: pd.DataFrame) -> str:
    return f"{counts(frame)}. {best_line(frame)}"


def _ended(frame: pd.DataFrame, interrupted: bool) -> SweepEnded:
    if interrupted:
        return SweepEnded("interrupted", f"Interrupted. {counts(frame)}.")
    if best(frame) is None:
        return SweepEnded("failed", f"Nothing finished. {counts(frame)}.")
    return SweepEnded("finished", f"{counts(frame)}.")
