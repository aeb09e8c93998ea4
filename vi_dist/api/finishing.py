"""After the last pack: leaderboard, curves and the best guides, on disk and in MLflow."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from vi_dist.api.fit import Fit
from vi_dist.api.sweep_result import SweepResult
from vi_dist.api.winner_data import write_winner
from vi_dist.cluster.interrupts import Interrupts
from vi_dist.cluster.recorder import Recorder
from vi_dist.cluster.sweep_files import SweepFiles
from vi_dist.evaluation.verdict import TRUST, Verdict
from vi_dist.report.leaderboard import (
    best,
    best_line,
    count_by_status,
    counts,
    failures,
    not_asked,
    unevaluated,
    unranked,
)
from vi_dist.report.leaderboard import shown as shown_columns
from vi_dist.report.rungs import lines
from vi_dist.report.sweep_directory import FITS, REPORT, RUNGS, WINNER, Summary
from vi_dist.tracking.champion import Merits
from vi_dist.tracking.note import leaderboard_note
from vi_dist.tracking.records import (
    Artifact,
    GuideLogged,
    Metrics,
    Note,
    PacksEnded,
    SweepEnded,
    Tags,
    now_ms,
)

log = logging.getLogger(__name__)

BEST_GUIDES = 3
"""How many guides become MLflow models."""


@dataclass(frozen=True)
class Origin:
    """What a sweep's winner is of, and whether it is to be the champion in any case.

    Attributes:
        model, data: digests of the model's source and of the data that it is trained on.
        champion: whether somebody asked for the alias to move.
    """

    model: str
    data: str
    champion: bool = False


def finish(
    result: SweepResult, files: SweepFiles, recorder: Recorder, interrupts: Interrupts, origin: Origin
) -> None:
    """Write the sweep's tables, tell MLflow, and wait until it knows."""
    recorder.write(PacksEnded())
    table, curves = files.write_tables(), files.write_curves()
    frame = result.dataframe()
    with recorder.timings.tracked():
        guides = _saved_guides(result, frame, files)
    verdict = _verdict(result, frame)
    _log_guides(guides, result.spec.name, recorder, _merits(frame, verdict, origin, interrupts), origin)
    # While it is drawn the writer carries on with what it has.
    _log_report(result, files, recorder)
    if best(frame) is not None and not interrupts.requested:
        _log_winner(result, files, recorder)
    with recorder.timings.tracked():
        for path, shown in ((table, True), (curves, False), (files.directory / RUNGS, True)):
            if path.exists():
                recorder.write(Artifact(str(path), table=shown))
        rows = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
        recorder.write(Note(leaderboard_note(rows, shown_columns(frame), _heading(result, frame, verdict))))
        _tag_winner(recorder, frame, verdict)
        _log_timings(recorder, frame)
        recorder.write(_ended(frame, interrupts.requested))
        summary = recorder.tracker.close()
    files.write_leaderboard(summary.run_ids)
    sentence = "" if verdict is None else verdict.sentence
    timings = recorder.timings.seconds()
    files.write_summary(
        Summary(
            interrupts.requested,
            timings,
            summary.error,
            sentence,
            champion=summary.champion,
            statuses=count_by_status(frame),
            failures=tuple(failures(frame)),
        )
    )


def _saved_guides(result: SweepResult, frame: pd.DataFrame, files: SweepFiles) -> list[GuideLogged]:
    """Save the best few fits whole; as records, the winner's first, if it could be saved."""
    winner = best(frame)
    chosen = frame[:0] if winner is None else frame[frame["status"] == winner["status"]].head(BEST_GUIDES)
    saved = []
    for row in chosen.to_dict("records"):
        key, name = str(row["key"]), str(row["name"])
        directory = files.directory / FITS / key
        try:
            fit = result.get(key)
            fit.save(directory)
            saved.append(GuideLogged(key, str(directory), model_name(name), _columns(fit)))
        except Exception as error:  # a guide that cannot be exported must not cost the sweep its results
            log.warning("the guide of %s is not kept as a model: %s", name, error)
    return saved


def _log_guides(
    guides: Sequence[GuideLogged], name: str, recorder: Recorder, merits: Merits | None, origin: Origin
) -> None:
    """Have guides logged as models, and the winner registered under the sweep's name."""
    alias: Literal["earned", "always"] = "always" if origin.champion else "earned"
    for guide in guides:
        if merits is not None and guide.key == merits.key:
            guide = replace(guide, register=name, merits=merits.to_tags(), alias=alias)
        recorder.write(guide)


def _merits(
    frame: pd.DataFrame, verdict: Verdict | None, origin: Origin, interrupts: Interrupts
) -> Merits | None:
    """What the winner's version is known for; None where there is no winner."""
    row = best(frame)
    if row is None:
        return None
    return Merits(
        key=str(row["key"]),
        model=origin.model,
        data=origin.data,
        verdict="" if verdict is None else verdict.word,
        trust=0 if verdict is None else TRUST[verdict.word],
        elbo=float(row["elbo"]),
        elbo_se=float(row["elbo_se"]),
        complete=not interrupts.requested,
    )


def _log_report(result: SweepResult, files: SweepFiles, recorder: Recorder) -> None:
    """Write the report and keep it with the sweep's run."""
    path = files.directory / REPORT
    try:
        path.write_text(result.report(), encoding="utf-8")
        recorder.write(Artifact(str(path)))
    except Exception as error:  # a figure that cannot be drawn must not cost the sweep its results
        log.warning("there is no report: %s", error)


def _log_winner(result: SweepResult, files: SweepFiles, recorder: Recorder) -> None:
    """Keep the winner's draws and predictions with the sweep's run, in ArviZ's form."""
    path = files.directory / WINNER
    try:
        reason = write_winner(result.best(), path)
        if not reason:
            recorder.write(Artifact(str(path)))
            return
    except Exception as error:  # as with a guide that cannot be exported: of shards, for example
        reason = str(error)
    log.info("there is no %s: %s; Fit.to_inference_data makes one", WINNER, reason)


def _verdict(result: SweepResult, frame: pd.DataFrame) -> Verdict | None:
    """Whether to trust the winner; None where nothing could be ranked, or where it cannot be told."""
    if best(frame) is None:
        return None
    try:
        return result.verdict()
    except Exception as error:  # as with a guide that cannot be exported
        log.warning("no verdict: %s", error)
        return None


def _heading(result: SweepResult, frame: pd.DataFrame, verdict: Verdict | None) -> str:
    """How the sweep went and whether to trust its winner, in a few paragraphs."""
    text = f"{counts(frame)}. {best_line(frame)}."
    cut_off = [*unevaluated(frame), *not_asked(frame, result.spec.configurations)]
    told = [*failures(frame), *cut_off, *lines(result.rungs(), frame)]
    if told:
        text += "\n\n" + ". ".join(line[0].upper() + line[1:].rstrip(".") for line in told) + "."
    if verdict is None:
        return text
    return f"{text}\n\n{verdict.sentence} The artifact `{REPORT}` holds curves, k-hat and marginals."


def _tag_winner(recorder: Recorder, frame: pd.DataFrame, verdict: Verdict | None) -> None:
    """The verdict on the winner's run, where runs can be filtered by it, and on the sweep's."""
    winner = best(frame)
    if winner is None or verdict is None:
        return
    for key in (str(winner["key"]), None):
        recorder.write(Tags(key, {"vi.verdict": verdict.word, "vi.verdict.reason": verdict.sentence}))


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


def _log_timings(recorder: Recorder, frame: pd.DataFrame) -> None:
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


def _ended(frame: pd.DataFrame, interrupted: bool) -> SweepEnded:
    if interrupted:
        return SweepEnded("interrupted", f"Interrupted. {counts(frame)}.")
    if best(frame) is None:
        why = unranked(frame)
        return SweepEnded("failed", f"{why[0].upper()}{why[1:]}. {counts(frame)}.")
    return SweepEnded("finished", f"{counts(frame)}.")
