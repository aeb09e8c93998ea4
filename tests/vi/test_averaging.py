"""The average of the last iterates: its weights, and that it is each column's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from vi_dist.errors import ModelError
from vi_dist.model.decorators import param, random_variable
from vi_dist.model.model import Model
from vi_dist.vi.averaging import average_weight
from vi_dist.vi.columns import Column
from vi_dist.vi.pack import PackProgram
from vi_dist.vi.state import PackState
from vi_dist.vi.variational_infer import VariationalInfer

STEPS, PARTS = 40, (0.0, 0.2, 1.0)


def _model() -> Model:
    @random_variable
    def mu() -> Normal:
        return Normal(torch.zeros(2), 2.0)

    @random_variable
    def y() -> Normal:
        return Normal(mu().sum(), 1.0).expand((3,))

    return Model([mu()], {y(): torch.tensor([0.5, 1.5, 2.5])})


@pytest.fixture(scope="module")
def columns(column: Callable[..., Column]) -> list[Column]:
    return [column(seed=1, averaging=part, steps=STEPS) for part in PARTS]


@pytest.fixture(scope="module")
def program(engine: Callable[..., object], columns: list[Column]) -> PackProgram:
    return engine(_model).program(columns)  # type: ignore[attr-defined,no-any-return]


def _weights(part: float) -> Tensor:
    """The weight of each iterate in the average after all steps, newest last."""
    newest = average_weight(
        torch.arange(1.0, STEPS + 1, dtype=torch.float64), torch.tensor(part, dtype=torch.float64)
    )
    kept = torch.cat((1 - newest[1:], torch.ones(1))).flip(0).cumprod(0).flip(0)
    return newest * kept


def test_the_average_is_the_weighted_mean_of_the_iterates(program: PackProgram) -> None:
    state, path = program.start(), []
    for _ in range(STEPS):
        state, _ = program.advance(state, 1)
        path.append(state.params)
    iterates = torch.stack(path)
    assert torch.equal(state.averaged[0], state.params[0])
    assert torch.equal(state.at_average().params, state.averaged)
    for row, part in enumerate(PARTS):
        expected = (_weights(part)[:, None] * iterates[:, row]).sum(0)
        torch.testing.assert_close(state.averaged[row], expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(state.averaged[2], iterates[:, 2].mean(0), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("part", [0.05, 0.2, 0.5])
def test_weights_add_up_and_have_the_mean_age_of_a_window(part: float) -> None:
    weights = _weights(part)
    age = (weights * torch.arange(STEPS - 1.0, -1, -1)).sum()
    assert float(weights.sum()) == pytest.approx(1)
    assert float(age) == pytest.approx(part * STEPS / 2, rel=0.06, abs=0.6)


def test_columns_average_by_themselves_and_through_files(
    program: PackProgram, columns: list[Column], engine: Callable[..., object]
) -> None:
    whole, _ = program.advance(program.start(), STEPS)
    alone = engine(_model).program([columns[1]], 3)  # type: ignore[attr-defined]
    half, _ = alone.advance(alone.start(), 17)
    state, _ = alone.advance(PackState.from_bytes(half.to_bytes()), STEPS - 17)
    torch.testing.assert_close(state.averaged[0], whole.averaged[1], rtol=1e-12, atol=0)
    assert not torch.equal(state.averaged[0], state.params[0])


def test_a_column_that_takes_no_step_keeps_its_average(program: PackProgram) -> None:
    done, _ = program.advance(program.start(), STEPS)
    after, _ = program.advance(done, 5)
    assert torch.equal(after.averaged, done.averaged)


def test_the_interactive_engine_averages_too() -> None:
    loc = param(lambda: torch.tensor(0.5))
    mu = random_variable(lambda: Normal(0.0, 1.0))
    guide = random_variable(lambda: Normal(loc(), 1.0))
    vi = VariationalInfer({mu(): guide()}, {}, lambda params: torch.optim.SGD(params, lr=0.1), averaging=1.0)
    path: list[Tensor] = []
    torch.manual_seed(0)
    world = vi.infer(5, 2, step_callback=lambda *_: path.append(vi.params[loc()].detach().clone()))
    assert path[0] != path[4]
    torch.testing.assert_close(vi.averaged[loc()], torch.stack(path).mean())
    torch.testing.assert_close(world.get_guide_distribution(mu()).mean, torch.stack(path).mean())


def test_a_part_outside_its_bounds_is_refused() -> None:
    with pytest.raises(ModelError, match=r"averaging is 1\.5"):
        VariationalInfer({}, {}, averaging=1.5)
