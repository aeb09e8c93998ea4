from __future__ import annotations

import itertools

import pytest

from vi_dist.tracking.budget import FEWEST, LEAST, MOST, kept_steps

CASES = list(itertools.product([1, 39, 40, 41, 321, 2000, 10**6], [1, 40, 256, 512, 1024, 5000]))


@pytest.mark.parametrize(("steps", "runs"), CASES)
def test_kept_steps_fill_the_budget_and_end_with_the_last(steps: int, runs: int) -> None:
    kept = kept_steps(steps, runs)
    budget = {1: MOST, 40: 256, 256: FEWEST, 512: FEWEST, 1024: FEWEST // 2, 5000: LEAST}[runs]
    assert len(kept) == min(steps, budget)
    assert kept == sorted(set(kept))
    assert kept[0] == 1
    assert kept[-1] == steps


def test_kept_steps_are_log_spaced_where_rounding_allows() -> None:
    kept = kept_steps(10**6, 256)
    ratios = [later / earlier for earlier, later in itertools.pairwise(kept) if earlier > 50]
    assert max(ratios) < 1.02 * min(ratios)


def test_a_curve_keeps_its_ends_however_many_runs_there_are() -> None:
    kept = kept_steps(50, 10**7)
    assert (kept[0], kept[-1], len(kept)) == (1, 50, LEAST)


def test_no_steps_keep_nothing() -> None:
    assert kept_steps(0, 1) == []
