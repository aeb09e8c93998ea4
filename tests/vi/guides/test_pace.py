"""Full-rank factors in many dimensions: a step moves the guide by the learning rate, not every entry of its factor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributions import Independent, Normal

from vi_dist.vi.estimators import ESTIMATORS
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.noise import NoiseSite, NoiseSpace

F64 = torch.float64
FULL: list[tuple[str, dict[str, Any]]] = [
    ("full_rank", {}),
    ("full_rank", {"whiten": True}),
    ("mixture", {"components": 2, "full_rank": True}),
    ("student_t", {"full_rank": True}),
    ("maf", {"transforms": 1, "hidden": 4}),
    ("structured", {"rank": 1, "blocks": "a + b"}),
]


@pytest.mark.parametrize(("name", "arguments"), FULL)
@pytest.mark.parametrize(("size", "expected"), [(25, {}), (100, {"lower": 0.25}), (400, {"lower": 0.0625})])
def test_entries_below_the_diagonal_slow_down_beyond_25_coordinates(
    name: str, arguments: dict[str, Any], size: int, expected: dict[str, float]
) -> None:
    space = NoiseSpace((NoiseSite("a", size - 5), NoiseSite("b", 5)))
    assert GUIDES[name].make(space, **arguments).pace == expected


def test_guides_without_a_large_triangle_keep_their_rates() -> None:
    space = NoiseSpace(tuple(NoiseSite(f"a{k}", 20) for k in range(10)))
    for name, arguments in (
        ("mean_field", {}),
        ("low_rank", {"rank": 2}),
        ("mixture", {"components": 2}),
        ("student_t", {}),
        ("structured", {"rank": 1}),
    ):
        assert GUIDES[name].make(space, **arguments).pace == {}, name


def test_a_step_of_adam_moves_leaves_at_their_pace(
    engine: Callable[..., Any], column: Callable[..., Any], targets: Any
) -> None:
    size, rate = 50, 0.01
    made = engine(
        lambda: targets.known(Independent(Normal(torch.ones(size, dtype=F64), 0.5), 1)), "full_rank"
    )
    program = made.program([column(learning_rate=rate)])
    start = program.start()
    after, _ = program.advance(start, 1)
    before, moved = program.leaves(start.params), program.leaves(after.params)
    for leaf, pace in (("loc", 1.0), ("raw_scale", 1.0), ("lower", 0.5)):
        change = (moved[leaf] - before[leaf]).abs()
        torch.testing.assert_close(change, torch.full_like(change, pace * rate), rtol=0.01, atol=0.0)


@pytest.mark.parametrize("estimator", ["reparam", "stl"])
def test_a_mixture_s_factors_stay_invertible_in_150_dimensions(
    fit: Callable[..., Any], targets: Any, estimator: str
) -> None:
    """The target is what a whitened guide sees; rates and steps are those at which factors used to degenerate."""
    found = fit(
        lambda: targets.known(Independent(Normal(torch.zeros(150, dtype=F64), 1.0), 1)),
        "mixture",
        components=2,
        full_rank=True,
        rate=0.03,
        steps=400,
        draws=512,
        estimator=ESTIMATORS[estimator].make(),
    )
    assert -15.0 < found.evaluation.elbo < 0.5  # log Z is 0
