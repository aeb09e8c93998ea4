"""What is said of a fit from itself half-way."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vi_dist.evaluation.convergence import SMALL_CHANGE, SMALL_MOVE, Convergence, compare

F64 = torch.float64


@pytest.fixture(scope="module")
def draws() -> Tensor:
    return torch.randn(4000, 3, dtype=F64, generator=torch.Generator().manual_seed(1)) * torch.tensor(
        [1, 10, 0.1]
    )


def test_it_measures_the_way_of_the_farthest_coordinate_in_its_own_units(draws: Tensor) -> None:
    weights = torch.linspace(-1, 1, 4000, dtype=F64)
    shifted = draws - torch.tensor([0.02, 0.0, 0.05], dtype=F64)
    found = compare((weights - 0.03, shifted), (weights, draws))
    assert found.change == pytest.approx(0.03)
    assert found.moved == pytest.approx(0.5, rel=0.03)
    scaled = compare((weights, draws * 1.2), (weights, draws))
    assert scaled.moved == pytest.approx(0.2, rel=0.03)


def test_a_coordinate_without_spread_has_moved_only_if_it_is_elsewhere(draws: Tensor) -> None:
    weights, fixed = torch.zeros(4000, dtype=F64), draws * torch.tensor([1.0, 1.0, 0.0])
    assert compare((weights, fixed), (weights, fixed)).moved == 0
    assert compare((weights, fixed + 1), (weights, fixed)).moved == math.inf


@pytest.mark.parametrize(
    ("change", "moved", "reached"),
    [
        (0.0, 0.0, True),
        (-SMALL_CHANGE, SMALL_MOVE, True),
        (0.0, math.nan, True),
        (-2 * SMALL_CHANGE, 0.0, False),
        (0.0, 2 * SMALL_MOVE, False),
        (math.nan, 0.0, False),
        (math.inf, 0.0, False),
    ],
)
def test_both_must_have_come_to_rest(change: float, moved: float, reached: bool) -> None:
    found = Convergence(change, moved)
    assert found.reached is reached
    assert found.sentence.startswith("Converged" if reached else "Not converged")
    assert ("means and sds" in found.sentence) is not math.isnan(moved)


def test_a_point_estimate_is_judged_by_its_log_joint() -> None:
    found = compare((torch.tensor([-3.0]), torch.zeros(1, 2)), (torch.tensor([-1.0]), torch.ones(1, 2)))
    assert found.change == 2
    assert found.sentence == "Not converged: in the second half of its steps the log joint changed by 2 nats."
