"""The trial in small: a posterior under four configurations, with loose marks; the marks; the thresholds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from benchmarks.trial import SPEC, trial
from benchmarks.trial_marks import marks
from benchmarks.trial_reference import evidence, names, reference
from benchmarks.trial_thresholds import Thresholds, best
from vi_dist.evaluation.verdict import DISTRUST, TRUSTWORTHY

SMALL: dict[str, Any] = {
    "space": {
        "guide": [{"mean_field": {"whiten": True}}, {"full_rank": {"whiten": True}}],
        "learning_rate": [0.03],
        "seed": [0, 1],
    },
    "steps": 150,
    "num_samples": 4,
    "schedule": "cosine",
    "executor": "inline",
    "compile": "never",
    "evaluation": {"samples": 4096},
}


def test_there_are_fourteen_posteriors_and_most_have_a_known_evidence() -> None:
    assert len(names()) == 14
    assert sum(bool(evidence(name)) for name in names()) == 13
    assert all(reference(name) for name in names())


@pytest.mark.slow
def test_a_winner_chosen_blind_is_near_the_reference(tmp_path: Path) -> None:
    """Kidiq's coordinates have unlike units and a correlation of -0.9, which defeat guides in plain coordinates."""
    spec = tmp_path / "small.yaml"
    spec.write_text(yaml.safe_dump(SMALL))
    row, every = trial("kidiq", tmp_path, spec)
    assert row["mu"] < 0.1
    assert row["sd"] < 0.1
    assert row["elbo"] > evidence("kidiq")["full_rank"] - 0.02
    assert row["verdict"] != DISTRUST
    assert len(every) == 4
    assert [one["winner"] for one in every] == [True, False, False, False]


def test_the_default_spec_says_nothing_of_any_posterior() -> None:
    assert not {"name", "model", "data"} & set(yaml.safe_load(SPEC.read_text()))


def row(**changes: Any) -> dict[str, Any]:
    good = {"posterior": "a", "mu": 0.01, "sd": 0.02, "verdict": TRUSTWORTHY, "elbo": -1.0, "elbo_se": 0.01}
    return {**good, "full_rank": -1.01, "full_rank_se": 0.001, **changes}


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, []),
        ({"full_rank": math.nan}, []),
        ({"mu": 0.06}, ["median mu"]),
        ({"sd": 0.04}, ["median sd"]),
        ({"mu": 0.4, "verdict": DISTRUST}, ["median mu", "trustworthy 0"]),
        ({"mu": 0.4}, ["median mu", "worst mu", "never trustworthy"]),
        ({"full_rank": -0.95}, ["ELBO"]),
        ({"full_rank": -0.985}, []),
    ],
)
def test_marks(changes: dict[str, Any], missed: list[str]) -> None:
    lines = marks([row(**changes)]).splitlines()
    found = [line.removeprefix("MISSED").strip() for line in lines if line.startswith("MISSED")]
    assert len(found) == len(missed)
    assert all(line.startswith(start) for line, start in zip(found, missed, strict=True))


def test_thresholds_part_the_good_from_the_bad() -> None:
    """Where the gap tells them apart, its threshold stands between them, and nothing bad is trusted."""
    good = {"mu": 0.01, "sd": 0.02, "iw_elbo": -0.92, "winner": True}
    bad = {"mu": 0.5, "sd": 0.02, "iw_elbo": -0.6, "winner": False}
    common = {"elbo": -1.0, "khat": 0.6, "apart": 0.02, "samples": 4096}
    frame = pd.DataFrame([{**good, **common}, {**bad, **common}])
    found = best(frame)
    assert 0.08 < found.gap < 0.4
    assert found.trusts(frame).tolist() == [True, False]


def test_a_small_gap_makes_up_for_k_hat() -> None:
    frame = pd.DataFrame(
        [
            {"elbo": -1.0, "iw_elbo": -1.0 + gap, "khat": 1.2, "apart": math.nan, "samples": 4096}
            for gap in (0.004, 0.2)
        ]
    )
    assert Thresholds(0.3, 0.1, small_gap=0.01).trusts(frame).tolist() == [True, False]
