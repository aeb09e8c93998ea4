from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from vi_dist.tracking.records import (
    KINDS,
    MLFLOW_STATUS,
    Artifact,
    GuideLogged,
    Metrics,
    Note,
    PacksEnded,
    Record,
    RunEnded,
    RunStarted,
    SweepEnded,
    SweepStarted,
    Tags,
    decode,
    encode,
)

RECORDS: list[Record] = [
    SweepStarted("id", "german_credit", "german_credit 1", {"steps": 2000}, {"mlflow.user": "ada"}, 1),
    RunStarted("k", "full_rank-lr0.01-s0", {"optim.lr": 0.01}, {"vi.node": "n"}, 2, 2),
    Metrics("k", [["train/elbo", 1, -1.5, 3], ["train/elbo", 2, -1.25, 4]], 5),  # type: ignore[list-item]
    RunEnded("k", "diverged", "the loss is not finite", {"final/seconds": 1.5}, {}, 6),
    Artifact("/a/b.parquet", "tables", None, True, 7),
    GuideLogged("k", "/a/guide", "winner", ["mu"], "german_credit", 8),
    Tags("k", {"vi.verdict": "trustworthy"}, 9),
    Note("| a |\n|---|\n| β \u2028 |", 9),
    PacksEnded(9),
    SweepEnded("interrupted", "Ctrl-C", 10),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_every_record_survives_its_line(record: Record) -> None:
    line = encode(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == record


def test_every_kind_is_tried() -> None:
    assert {type(record) for record in RECORDS} == set(KINDS.values())


def test_numbers_of_numpy_and_paths_become_plain() -> None:
    point = ("train/elbo", np.int64(3), np.float32(0.5), 1)
    assert decode(encode(Metrics("k", [point]))).points == [["train/elbo", 3, 0.5, 1]]
    assert decode(encode(RunStarted("k", "n", {"data": Path("/a")}))).params == {"data": "/a"}


def test_values_that_are_not_finite_reach_the_writer() -> None:
    points = [("train/elbo", 1, math.nan, 1), ("train/elbo", 2, -math.inf, 1)]
    first, second = decode(encode(Metrics("k", points))).points
    assert math.isnan(first[2])
    assert second[2] == -math.inf


@pytest.mark.parametrize(
    "line", [b'{"kind": "Note", "te', b"[1]\n", b'{"kind": "Nonsense"}\n', b'{"kind": "Note"}\n']
)
def test_a_line_that_is_no_record_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(line)


def test_every_status_has_its_word_in_mlflow() -> None:
    assert dict(MLFLOW_STATUS) == {
        "finished": "FINISHED",
        "stopped": "KILLED",
        "diverged": "FAILED",
        "failed": "FAILED",
        "interrupted": "KILLED",
    }
