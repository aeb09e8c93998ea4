"""Batches of a shard's rows: their order is keyed, and on average they say what all rows say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, HalfNormal, Normal

from vi_dist.cluster.batching import batch_density, check_additive
from vi_dist.errors import ModelError
from vi_dist.model.data import Data
from vi_dist.model.decorators import param, random_variable
from vi_dist.model.model import Model
from vi_dist.vi import estimators
from vi_dist.vi.batches import Batches
from vi_dist.vi.columns import Column
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.layout import make_layout
from vi_dist.vi.noise import TRAINING
from vi_dist.vi.optimizers import OPTIMIZERS
from vi_dist.vi.pack import PackProgram
from vi_dist.vi.shards import ShardGroup
from vi_dist.vi.state import PARTS, PackState
from vi_dist.vi.trace import trace_batches, trace_joint

F64 = torch.float64
ROWS = 36
# Shards as (first row, one past the last).
CUTS = {1: [(0, 36)], 2: [(0, 20), (20, 36)], 3: [(0, 4), (4, 28), (28, 36)]}


def build(data: dict[str, Any]) -> Model:
    """A regression with a scale, whose intercept is a param."""
    intercept = param(lambda: torch.tensor(0.1, dtype=F64))

    @random_variable
    def slope() -> Distribution:
        return Normal(torch.zeros(2), data["spread"])

    @random_variable
    def tau() -> Distribution:
        return HalfNormal(torch.tensor(2.0))

    @random_variable
    def obs() -> Distribution:
        return Normal(intercept() + data["x"] @ slope(), tau())

    return Model([slope(), tau()], {obs(): data["y"]})


def build_centred(data: dict[str, Any]) -> Model:
    """What a batch must not do: it takes the mean of its own rows."""
    return build(data | {"x": data["x"] - data["x"].mean(0)})


def build_counting(data: dict[str, Any]) -> Model:
    """A prior that depends on the rows."""
    return build(data | {"spread": data["y"].abs().max()})


def build_reading(data: dict[str, Any]) -> Model:
    """Rows read in Python, which no graph can have as its input."""
    return build(data | {"y": torch.tensor(data["y"].tolist())})


def rows(first: int = 0, end: int = ROWS) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 2, generator=generator, dtype=F64)
    y = 1 + 0.5 * x[:, 0] + torch.randn(ROWS, generator=generator, dtype=F64)
    return {"x": x[first:end].clone(), "y": y[first:end].clone(), "spread": torch.tensor(3.0, dtype=F64)}


def program(
    columns: Sequence[Column],
    size: int | None,
    cut: tuple[int, int] = (0, ROWS),
    make: Callable[..., Model] = build,
    optimizer: str = "adam",
) -> PackProgram:
    """The program of one shard; without a size every step sees all of its rows."""
    data, ids = rows(*cut), torch.arange(*cut)
    with model_context(F64):
        model = make(data)
        layout = make_layout(model, sharded=True)
    guide, batches = GUIDES["full_rank"].make(layout.noise), None
    if size is None:
        joint = trace_joint(Density(model, layout, owner=cut[0] == 0), dtype=F64)
    else:
        batches = Batches((data["x"], data["y"]), ids, size)
        density = batch_density(make, Data(data), layout, batches, owner=cut[0] == 0)
        joint = trace_batches(density, batches(1), batches(0), dtype=F64)
    rule = OPTIMIZERS[optimizer].make()
    return PackProgram(joint, layout, guide, rule, 4, columns, 2, ids=ids, batches=batches, dtype=F64)


def kinds(column: Callable[..., Column], **fields: Any) -> list[Column]:
    return [
        column(seed, estimator=estimator, **fields)
        for seed, estimator in enumerate((estimators.stl, estimators.reparam))
    ]


def test_an_epoch_sees_every_row_once_and_the_next_one_in_another_order() -> None:
    values = torch.arange(20) * 3
    batches = Batches([values, values.double()[:, None]], torch.arange(100, 120), 5)
    epochs = [[batches(step) for step in range(4 * k, 4 * k + 4)] for k in (0, 1)]
    for epoch in epochs:
        assert sorted(torch.cat([first for first, _ in epoch]).tolist()) == values.tolist()
    assert epochs[0][0][1].shape == (5, 1)
    orders = [torch.cat([first for first, _ in epoch]) for epoch in epochs]
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], values)


def test_what_is_left_over_waits_for_the_next_epoch() -> None:
    batches = Batches([torch.arange(7)], torch.arange(7), 3)
    assert batches.per_epoch == 2
    assert batches.scale == 7 / 3
    assert len(torch.cat([batches(0)[0], batches(1)[0]]).unique()) == 6
    seen = torch.cat([batches(step)[0] for step in range(40)]).bincount(minlength=7)
    assert seen.min() > 10


def test_the_order_belongs_to_row_numbers_and_steps_alone() -> None:
    """A shard's order is that of its rows among all; asking for steps in any order changes nothing."""
    ids = torch.arange(30)
    whole, part = Batches([ids], ids, 10), Batches([ids[12:25]], ids[12:25], 4)
    order = whole.order(2)
    assert torch.equal(ids[12:25][part.order(2)], order[(order >= 12) & (order < 25)])
    fresh = Batches([ids], ids, 10)
    assert torch.equal(fresh(7)[0], [whole(step)[0] for step in range(8)][7])
    assert torch.equal(whole(1)[0], fresh(1)[0])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_batches_of_an_epoch_average_to_what_all_rows_say(count: int, column: Callable[..., Column]) -> None:
    """Log weights and their slopes in coordinates and params of the model, at the same noise, with uneven shards."""
    for cut in CUTS[count]:
        size = (cut[1] - cut[0]) // 4
        batched, full = (program(kinds(column), some, cut) for some in (size, None))
        params = full.first_params() + 0.1
        eps = full.noise(TRAINING, torch.full((1, 2), 3))[0]
        with torch.no_grad():
            parts = [batched.own(params, eps, *batched.batch(step))[0] for step in range(4)]
            expected = full.own(params, eps)[0]
        torch.testing.assert_close(torch.stack(parts).mean(0), expected, rtol=1e-12, atol=1e-12)
        assert (parts[0] - expected).abs().max() > 0.01


def test_batches_of_an_epoch_average_to_the_gradient_of_all_rows(column: Callable[..., Column]) -> None:
    """The step itself: with plain gradient descent and one noise, the mean of the moves is the move of all rows."""
    columns = kinds(column, learning_rate=1e-4, optimizer="sgd")
    batched, full = (program(columns, size, optimizer="sgd") for size in (9, None))
    start = full.start()
    eps = full.noise(TRAINING, start.step[None])[0]

    def moved(made: PackProgram, *batch: Tensor) -> Tensor:
        own = made.own(start.params, eps, *batch)
        return (
            PackState(*made.rest(*start.tensors(), eps, *own, *made.constants)[:PARTS]).params - start.params
        )

    mean = torch.stack([moved(batched, *batched.batch(step)) for step in range(4)]).mean(0)
    torch.testing.assert_close(mean, moved(full), rtol=1e-9, atol=1e-14)
    assert moved(full).abs().max() > 1e-6


def test_shards_step_with_batches_of_their_own_and_chunks_change_nothing(
    column: Callable[..., Column],
) -> None:
    columns = kinds(column, steps=30, learning_rate=0.02)
    groups = [ShardGroup([program(columns, 3, cut) for cut in CUTS[3]]) for _ in range(2)]
    expected, trajectory = groups[0].advance(groups[0].start(), 30)
    assert trajectory.loss.isfinite().all()
    states = groups[1].start()
    for steps in (7, 1, 22):
        states, _ = groups[1].advance(states, steps)
    assert torch.equal(groups[1].shared(states), groups[0].shared(expected))
    moved = (groups[0].shared(expected) - groups[0].programs[0].first_params()).abs().amax(-1)
    assert moved.min() > 0.05


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (build_centred, "two parts of them .* build computes something of all its rows"),
        (build_counting, "the prior of the latents changes with the rows"),
    ],
)
def test_a_build_that_looks_at_all_its_rows_is_refused(make: Callable[..., Model], words: str) -> None:
    data = rows()
    with model_context(F64):
        layout = make_layout(make(data), sharded=True)
    batches = Batches((data["x"], data["y"]), torch.arange(ROWS), 10)
    flat = layout.start.to(F64) + 0.1
    check_additive(batch_density(build, Data(data), layout, batches), batches, flat)
    with pytest.raises(ModelError, match=words):
        check_additive(batch_density(make, Data(data), layout, batches), batches, flat)


def test_a_build_that_cannot_be_traced_is_refused() -> None:
    data = rows()
    with model_context(F64):
        layout = make_layout(build(data), sharded=True)
    batches = Batches((data["x"], data["y"]), torch.arange(ROWS), 10)
    density = batch_density(build_reading, Data(data), layout, batches)
    with pytest.raises(ModelError, match="build that can be traced with any rows"):
        trace_batches(density, batches(1), batches(0), dtype=F64)
