"""Columns taken from several packs into one go on as they would have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.distributions import HalfNormal, Normal

from vi_dist.model.decorators import random_variable
from vi_dist.model.model import Model
from vi_dist.vi.columns import Column
from vi_dist.vi.divergences import amari, kl_reverse
from vi_dist.vi.estimators import reparam, score, stl
from vi_dist.vi.pack import PackProgram
from vi_dist.vi.state import PackState, gather

Make = Callable[..., PackProgram]


def _model() -> Model:
    @random_variable
    def mu() -> Normal:
        return Normal(torch.zeros(2), 2.0)

    @random_variable
    def tau() -> HalfNormal:
        return HalfNormal(torch.tensor(1.0))

    @random_variable
    def y() -> Normal:
        return Normal(mu().sum(), tau()).expand((3,))

    return Model([mu(), tau()], {y(): torch.tensor([0.5, 1.5, 2.5])})


@pytest.fixture(scope="module", params=["mean_field", "full_rank"])
def make(request: pytest.FixtureRequest, engine: Callable[..., object]) -> Make:
    made = engine(_model, request.param, dtype=torch.float32)

    def program(columns: list[Column], kinds: list[Column]) -> PackProgram:
        return made.program(columns, 8, kinds=kinds)  # type: ignore[attr-defined,no-any-return]

    return program


@pytest.fixture(scope="module")
def columns(column: Callable[..., Column]) -> list[Column]:
    choices = [(kl_reverse, stl), (amari(0.5), reparam), (kl_reverse, score)]
    return [
        column(
            seed=seed,
            divergence=d,
            estimator=e,
            steps=40,
            learning_rate=0.03,
            schedule=("cosine", {"final": 0.1}),
        )
        for seed, (d, e) in enumerate(choices * 3)
    ]


def test_a_regrouped_column_goes_on_bitwise_as_it_would_have(make: Make, columns: list[Column]) -> None:
    packs = [columns[:5], columns[5:]]
    programs = [make(pack, columns) for pack in packs]
    states = [program.advance(program.start(), 15)[0] for program in programs]
    whole = [program.advance(state, 25) for program, state in zip(programs, states, strict=True)]

    chosen = [(1, 3), (0, 4), (0, 1), (1, 0)]
    together = make([packs[pack][row] for pack, row in chosen], columns)
    state = gather([(states[pack], row) for pack, row in chosen], 8)
    state = PackState.from_bytes(state.to_bytes())
    after, curves = together.advance(state, 25)
    for place, (pack, row) in enumerate(chosen):
        alone, curve = whole[pack]
        for name in ("params", "shift", "step", "skipped", "streak", "clamped", "alive"):
            assert getattr(after, name)[place].equal(getattr(alone, name)[row]), name
        assert after.buffers[:, place].equal(alone.buffers[:, row])
        assert curves.loss[:, place].equal(curve.loss[:, row])


def test_rows_without_a_column_take_no_step(make: Make, columns: list[Column]) -> None:
    program = make(columns[:2], columns)
    state, _ = program.advance(program.start(), 15)
    one = make(columns[1:2], columns)
    before = gather([(state, 1)], 8)
    after, curves = one.advance(before, 5)
    assert before.params.shape == (8, *state.params.shape[1:]) and before.buffers.shape == state.buffers.shape
    assert after.step.tolist() == [20] + [15] * 7
    assert after.params[1:].equal(before.params[1:])
    assert curves.loss[:, 1:].isnan().all()


def test_a_column_that_diverged_stays_so(make: Make, columns: list[Column]) -> None:
    program = make([columns[0], replace(columns[0], learning_rate=1e30)], columns)
    state, _ = program.advance(program.start(), 40)
    assert state.alive[:2].tolist() == [True, False]
    assert gather([(state, 1), (state, 0)], 8).alive[:2].tolist() == [False, True]
