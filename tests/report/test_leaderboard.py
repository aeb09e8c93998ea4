"""The order of the leaderboard and what it looks like as text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vi_dist.report.leaderboard import (
    COLUMNS,
    best,
    best_line,
    count_by_status,
    counts,
    failures,
    leaderboard,
    not_asked,
    objective_of,
    records,
    shown,
    table_text,
    unevaluated,
    unfinished,
    unranked,
    with_extras,
)


def row(name: str, status: str = "finished", elbo: float = math.nan) -> dict[str, Any]:
    numbers = dict.fromkeys(("learning_rate", "elbo_se", "iw_elbo", "khat", "seconds"), 0.0)
    whole = dict.fromkeys(("num_samples", "seed", "steps"), 1)
    texts = dict.fromkeys(set(COLUMNS) - {*numbers, *whole, "rank", "elbo"}, "x")
    return {**texts, **numbers, **whole, "name": name, "status": status, "elbo": elbo}


ROWS = [
    row("interrupted", "interrupted"),
    row("point"),
    row("low", elbo=-3.0),
    row("failed", "failed"),
    row("stopped", "stopped", -1.0),
    row("high", elbo=-2.0),
    row("broken", elbo=-math.inf),
    row("diverged", "diverged", 5.0),
    row("high too", elbo=-2.0),
]


def test_finished_first_by_elbo_and_without_one_last() -> None:
    frame = leaderboard(ROWS)
    assert frame["name"].tolist() == [
        "high",
        "high too",
        "low",
        "point",
        "broken",
        "stopped",
        "diverged",
        "failed",
        "interrupted",
    ]
    assert frame["rank"].tolist() == list(range(1, 10))
    assert best_line(frame).startswith("best: high elbo=-2.000 ± ")
    assert counts(frame) == "9 configurations: 5 finished, 1 stopped, 1 diverged, 1 failed, 1 interrupted"


def test_another_objective_orders_and_is_named() -> None:
    rows = [
        row("a", elbo=-1.0) | {"elpd": -9.0, "elpd_se": 0.5},
        row("b", elbo=-2.0) | {"elpd": -8.0, "elpd_se": 0.25},
    ]
    frame = leaderboard(rows, "elpd")
    assert frame["name"].tolist() == ["b", "a"]
    assert list(frame.columns) == with_extras(COLUMNS, ("elpd_se", "elpd"))
    assert shown(frame)[-3:] == ["elpd", "elpd_se", "seconds"]
    assert best_line(frame) == "best: b elpd=-8.000 ± 0.250"
    assert objective_of(frame) == "elpd"
    assert "elpd" not in leaderboard([row("a", elbo=-1.0) | {"elpd": math.nan}]).columns


def test_an_objective_without_an_error_is_told_without_one(tmp_path: Path) -> None:
    frame = leaderboard([row("a") | {"score": 1.5}], "score")
    frame.to_parquet(tmp_path / "leaderboard.parquet")
    assert best_line(pd.read_parquet(tmp_path / "leaderboard.parquet")) == "best: a score=1.500"


def test_where_a_budget_stopped_all_the_best_of_them_is_the_best() -> None:
    rows = [row("worse", "stopped", -5.0), row("better", "stopped", -1.0) | {"steps": 30}]
    assert best_line(leaderboard(rows)) == "best: better elbo=-1.000 ± 0.000, stopped after 30 steps"
    assert best(leaderboard([*rows, row("point")])) is not None
    assert best_line(leaderboard([*rows, row("done", elbo=-9.0)])) == "best: done elbo=-9.000 ± 0.000"
    assert best(leaderboard([row("before it began", "stopped")])) is None


@pytest.mark.parametrize("status", ["diverged", "failed", "interrupted"])
def test_what_did_not_finish_is_not_best(status: str) -> None:
    frame = leaderboard([row("one", status, 3.0)])
    assert best(frame) is None
    assert best_line(frame).startswith("best: none")


def test_json_has_null_for_what_is_no_number() -> None:
    data = records(leaderboard(ROWS))
    assert data[3]["elbo"] is None and data[4]["elbo"] is None
    assert data[0]["elbo"] == -2.0


def test_the_table_shows_the_top_and_says_how_many_are_left() -> None:
    lines = table_text(leaderboard(ROWS), top=2).splitlines()
    assert len(lines) == 4
    assert lines[-1] == "... and 7 more"
    assert lines[1].split()[:2] == ["1", "high"]


def test_a_number_that_is_not_there_is_a_dash() -> None:
    (_, line) = table_text(leaderboard([row("interrupted", "interrupted")])).splitlines()
    assert line.split()[4] == "-"


def test_an_interrupted_sweep_says_what_is_kept_and_what_has_no_numbers() -> None:
    rows = [
        row("a", elbo=-1.0),
        row("b", "diverged"),
        row("c", "interrupted"),
        row("d", "interrupted") | {"steps": 0},
    ]
    (line,) = unevaluated(leaderboard(rows))
    assert line.startswith("interrupted: 2 ended and kept; not evaluated, so without ELBO")
    assert line.endswith(": 1 under way (curves kept), 1 not begun")
    assert unevaluated(leaderboard(rows[:3]))[0].endswith(": 1 under way (curves kept)")
    assert unevaluated(leaderboard(rows[:2])) == []


@pytest.mark.parametrize("objective", ["elbo", "elpd", "score", "iw_elbo"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_where_nothing_has_a_finite_objective_nothing_is_best(objective: str, value: float) -> None:
    """Whoever stands first then stands there by chance, even over one with a better ELBO."""
    rows = [row("first", elbo=-9.0), row("second", elbo=-1.0), row("stopped", "stopped")]
    frame = leaderboard([one | {objective: value} for one in rows], objective)
    assert objective in frame.columns, "or nobody could tell what it was ranked by"
    assert best(frame) is None
    assert unranked(frame) == f"nothing could be ranked: none of the 2 that finished has a finite {objective}"
    assert best_line(frame) == f"best: none, since {unranked(frame)}"


def test_where_nothing_finished_that_is_why_nothing_is_best() -> None:
    assert unranked(leaderboard([row("lost", "diverged")])) == "no configuration finished"
    assert unranked(leaderboard([row("good", elbo=-1.0)])) == ""
    points = leaderboard([row("point") | {"guide": "delta"}])
    assert "none of the one that finished" in unranked(points) and "point estimate" in unranked(points)


def test_reasons_of_one_kind_are_told_once_with_the_first_that_has_it() -> None:
    reasons = [("a", "diverged", f"Diverged at step {step} of 60: too large.") for step in (7, 12, 33)]
    reasons += [("b", "failed", "Failed: ValueError."), ("c", "finished", "Took all 60 steps.")]
    frame = leaderboard([row(name, status, -1.0) | {"reason": reason} for name, status, reason in reasons])
    assert failures(frame) == [
        "diverged: a (and 2 more like it): Diverged at step 7 of 60: too large.",
        "failed: b: Failed: ValueError.",
    ]
    assert count_by_status(frame) == {"finished": 1, "diverged": 3, "failed": 1}
    assert failures(frame[:1]) == []
    kinds = [row("d", "failed") | {"reason": f"Failed: {kind}."} for kind in ("one", "two", "three", "four")]
    assert failures(leaderboard(kinds))[-1] == "failed: 1 more kinds of reasons, in the column reason"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"converged": "yes"}, ""),
        ({"converged": "no"}, "not converged"),
        ({"converged": ""}, ""),
        ({"converged": "", "steps": 19}, "only 19 steps long, too short to tell whether it converged"),
        ({"converged": "", "status": "stopped", "steps": 200}, "stopped after 200 steps"),
    ],
)
def test_what_kept_a_fit_from_its_end_is_in_words(change: dict[str, Any], words: str) -> None:
    assert unfinished({**row("one"), "steps": 400, **change}) == words


def test_a_search_that_ended_early_says_how_many_it_never_asked_for() -> None:
    frame = leaderboard([row("a", elbo=-1.0), row("b", "stopped")])
    assert not_asked(frame, 128) == ["126 of 128 configurations were never asked for: the sweep ended before"]
    assert not_asked(frame, 2) == not_asked(frame, None) == []
