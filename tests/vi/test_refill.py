from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.distributions import Normal

from vi_dist.model.decorators import random_variable
from vi_dist.model.model import Model
from vi_dist.vi.divergences import amari, kl_forward, kl_reverse
from vi_dist.vi.estimators import reparam, self_normalised, stl
from vi_dist.vi.pack import PackProgram


def _model() -> Model:
    @random_variable
    def mu() -> Normal:
        return Normal(0.0, 2.0)

    @random_variable
    def y() -> Normal:
        return Normal(mu(), torch.tensor(1.0)).expand((3,))

    return Model([mu()], {y(): torch.tensor([0.5, 1.5, 2.5])})


@pytest.fixture(scope="module")
def refilled(engine: Callable, column: Callable) -> tuple[PackProgram, PackProgram, dict]:  # type: ignore[type-arg]
    """A pack whose middle column is replaced after 20 steps; the same pack left alone; the new column alone."""
    old = [
        column(seed=0, divergence=kl_reverse, estimator=stl, steps=50),
        column(seed=1, divergence=amari(0.5), estimator=reparam, steps=20),
        column(seed=2, divergence=kl_forward, estimator=self_normalised, steps=50),
    ]
    new = column(seed=7, divergence=amari(0.7), estimator=reparam, learning_rate=0.02, steps=30)
    made = engine(_model)
    pack, alone = made.program(old), made.program(old)
    fresh = made.program([old[0], new, old[2]])
    state, _ = pack.advance(pack.start(), 20)
    state = pack.refill(state, {1: new})
    after, trajectory = pack.advance(state, 30)
    undisturbed, _ = alone.advance(alone.start(), 50)
    of_new, curve = fresh.advance(fresh.start(), 30)
    return (
        pack,
        alone,
        {
            "after": after,
            "undisturbed": undisturbed,
            "new": of_new,
            "curve": curve,
            "trajectory": trajectory,
        },
    )


def test_neighbours_of_a_refilled_column_do_not_change(refilled: tuple) -> None:  # type: ignore[type-arg]
    _, _, found = refilled
    for row in (0, 2):
        assert torch.equal(found["after"].params[row], found["undisturbed"].params[row])
        assert found["after"].step[row] == 50


def test_a_refilled_column_is_the_fit_it_would_have_been_from_the_start(refilled: tuple) -> None:  # type: ignore[type-arg]
    _, _, found = refilled
    assert torch.equal(found["after"].params[1], found["new"].params[1])
    assert torch.equal(found["trajectory"].loss[:, 1], found["curve"].loss[:, 1])
    assert found["after"].step[1] == 30


def test_the_program_is_not_traced_again(refilled: tuple) -> None:  # type: ignore[type-arg]
    pack, _, _ = refilled
    graph = pack.graph()
    state = pack.start()
    pack.advance(pack.refill(state, {0: pack.columns[1]}), 1)
    assert pack.graph() is graph


def test_a_kind_that_the_program_does_not_know_is_refused(refilled: tuple, column: Callable) -> None:  # type: ignore[type-arg]
    pack, _, _ = refilled
    with pytest.raises(ValueError, match="kinds"):
        pack.refill(pack.start(), {0: column(divergence=kl_forward, estimator=reparam)})
