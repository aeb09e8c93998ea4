"""The order of the leaderboard and what it looks like as text."""

from __future__ import annotations

import math
from typing import Any

import pytest

from vi_dist.report.leaderboard import COLUMNS, best, best_line, counts, leaderboard, records, table_text


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


@pytest.mark.parametrize("status", ["diverged", "failed", "interrupted", "stopped"])
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
