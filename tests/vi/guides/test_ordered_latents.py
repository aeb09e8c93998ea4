from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.distributions import Distribution, Exponential, Normal

from vi_dist.model.decorators import random_variable
from vi_dist.model.model import Model
from vi_dist.model.ordered import Ordered, ordered, positive_ordered
from vi_dist.vi.sampling import draw_flat, make_constrain

F64 = torch.float64


def cutpoints() -> Model:
    """Three ordered places, each seen with noise, and two positive ones."""

    @random_variable
    def places() -> Distribution:
        return Ordered(Normal(torch.zeros((), dtype=F64), 5.0), 3)

    @random_variable
    def seen() -> Distribution:
        return Normal(places(), 0.1)

    @random_variable
    def waits() -> Distribution:
        return Ordered(Exponential(torch.ones((), dtype=F64)), 2)

    return Model([places(), waits()], {seen(): torch.tensor([-1.0, 0.5, 2.0], dtype=F64)})


def test_ordered_latents_are_traced_fitted_and_drawn(
    fit: Callable[..., Any], engine: Callable[..., Any]
) -> None:
    found = fit(cutpoints, "full_rank", steps=500, samples=4)
    assert found.program.joint.mode == "flat"
    flat = draw_flat(found.family, {k: v[0] for k, v in found.leaves.items()}, found.params[0], 500)
    made = engine(cutpoints)
    drawn = make_constrain(made.density, made.layout.loc)(flat)
    assert bool(ordered.check(drawn["places"]).all())
    assert bool(positive_ordered.check(drawn["waits"]).all())
    expected = torch.tensor([-1.0, 0.5, 2.0], dtype=F64)
    torch.testing.assert_close(drawn["places"].mean(0), expected, rtol=0, atol=0.05)
    torch.testing.assert_close(drawn["places"].std(0), torch.full((3,), 0.1, dtype=F64), rtol=0.2, atol=0)
    # The smaller of two Exponential(1) waits is Exponential(2).
    assert abs(float(drawn["waits"][:, 0].mean()) - 0.5) < 0.15
