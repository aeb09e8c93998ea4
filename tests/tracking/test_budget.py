from __future__ import annotations

import itertools

import pytest

from vi_dist.tracking.budget import FEWEST, MOST, kept_steps

CASES = list(itertools.product([1, 39, 40, 41, 321, 2000, 10**6], [1, 40, 256, 5000]))


@pytest.mark.parametrize(("steps", "runs"), CASES)
def test_kept_steps_fill_the_budget_and_end_with_the_last(steps: int, runs: int) -> None:
    kept = kept_steps(steps, runs)
    budget = MOST if runs == 1 else 256 if runs == 40 else FEWEST
    assert len(kept) == min(steps, budget)
    assert kept == sorted(set(kept))
    assert kept[0] == 1
    assert kept[-1] == steps


def test_kept_steps_are_log_spaced_where_rounding_allows() -> None:
    kept = kept_steps(10**6, 256)
    ratios = [later / earlier for earlier, later in itertools.pairwise(kept) if earlier > 50]
    assert max(ratios) < 1.02 * min(ratios)


def test_no_steps_keep_nothing() -> None:
    assert kept_steps(0, 1) == []
