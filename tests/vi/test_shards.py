"""Promise 2: a shard count does not change the answer, for any divergence, with global and local latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, HalfNormal, Normal

from vi_dist.model.decorators import param, random_variable
from vi_dist.model.model import Model
from vi_dist.vi import divergences, estimators
from vi_dist.vi.columns import Column
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.layout import make_layout
from vi_dist.vi.noise import NoiseSite, NoiseSpace, NormalSource
from vi_dist.vi.optimizers import OPTIMIZERS
from vi_dist.vi.pack import PackProgram
from vi_dist.vi.shards import ShardGroup
from vi_dist.vi.trace import trace_joint

F64 = torch.float64
ROWS, STEPS = 37, 100
# Shards as (first row, one past the last): one, two, three uneven ones, four with an empty one.
CUTS = {
    1: [(0, 37)],
    2: [(0, 20), (20, 37)],
    3: [(0, 5), (5, 30), (30, 37)],
    4: [(0, 10), (10, 10), (10, 30), (30, 37)],
}
TOLERANCE = 1e-10


def build(x: Tensor, y: Tensor) -> Model:
    """A regression whose rows each have a level of their own."""

    @random_variable
    def mu() -> Distribution:
        return Normal(torch.zeros(2), 3.0)

    @random_variable
    def tau() -> Distribution:
        return HalfNormal(torch.tensor(2.0))

    @random_variable
    def level() -> Distribution:
        return Normal(mu()[0].expand(y.shape), 1.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(level() + mu()[1] * x, tau())

    return Model([mu(), tau()], {obs(): y}, local=[level()])


def build_with_param(x: Tensor, y: Tensor) -> Model:
    """No local latent, and a param that the evidence bound trains."""
    slope = param(lambda: torch.tensor(0.1, dtype=F64))

    @random_variable
    def mu() -> Distribution:
        return Normal(torch.tensor(0.0), 3.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(mu() + slope() * x, 1.0)

    return Model([mu()], {obs(): y})


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, generator=generator, dtype=F64)
    return x, 1 + 0.5 * x + torch.randn(ROWS, generator=generator, dtype=F64)


def group(
    cuts: Sequence[tuple[int, int]],
    family: str,
    columns: Sequence[Column],
    model: Callable[..., Model] = build,
) -> ShardGroup:
    x, y = data()
    programs = []
    for rank, (first, end) in enumerate(cuts):
        with model_context(F64):
            made = model(x[first:end].clone(), y[first:end].clone())
            layout = make_layout(made, sharded=True)
        guide = GUIDES[family].make(layout.noise)
        joint = trace_joint(Density(made, layout, guide.jacobian, owner=rank == 0), dtype=F64)
        ids, adam = torch.arange(first, end), OPTIMIZERS["adam"].make()
        programs.append(PackProgram(joint, layout, guide, adam, 4, columns, 8, ids=ids, dtype=F64))
    return ShardGroup(programs)


def every_kind(column: Callable[..., Column]) -> list[Column]:
    """Reverse and forward KL, chi-squared, amari 1/2, Jensen-Shannon, DReG and score, schedules and stops apart."""
    kinds: list[tuple[Any, Any, dict[str, Any]]] = [
        (divergences.kl_reverse, estimators.stl, {}),
        (divergences.kl_forward, estimators.reparam, {"clip": 5.0}),
        (divergences.pearson_chi2, estimators.reparam, {"learning_rate": 0.003}),
        (divergences.amari(0.5), estimators.reparam, {"schedule": ("cosine", {}), "steps": 75}),
        (divergences.jensen_shannon, estimators.reparam, {}),
        (divergences.kl_reverse, estimators.score, {"learning_rate": 0.003}),
        (divergences.kl_reverse, estimators.dreg, {}),
    ]
    return [
        column(seed, divergence=d, estimator=e, **{"learning_rate": 0.01, "steps": STEPS, **more})
        for seed, (d, e, more) in enumerate(kinds)
    ]


def difference(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the largest number; both have their NaN at the same places."""
    assert torch.equal(one.isnan(), other.isnan())
    one, other = one.nan_to_num(), other.nan_to_num()
    return float((one - other).abs().max() / other.abs().max())


@pytest.fixture(scope="module")
def fits(column: Callable[..., Column]) -> dict[int, tuple[Tensor, ...]]:
    """Of full-rank guides, for each number of shards: shared params, locals' by row, losses, and log weights."""
    found = {}
    for shards, cuts in CUTS.items():
        made = group(cuts, "full_rank", every_kind(column))
        states, trajectory = made.advance(made.start(), STEPS)
        size = made.programs[0].step.shared_size
        local = [state.params[:, size:].reshape(8, 2, -1) for state in states]
        found[shards] = (
            made.shared(states),
            torch.cat(local, -1),
            trajectory.loss,
            trajectory.grad_norm,
            made.log_weights(states, 100),
        )
    return found


@pytest.mark.parametrize("shards", [2, 3, 4])
def test_trajectories_and_evaluation_do_not_depend_on_the_shard_count(
    fits: dict[int, tuple[Tensor, ...]], shards: int
) -> None:
    for part, one in zip(fits[shards], fits[1], strict=True):
        assert part.shape == one.shape
        assert difference(part, one) < TOLERANCE


def test_the_fits_went_somewhere(fits: dict[int, tuple[Tensor, ...]]) -> None:
    """Every column has learnt: its shared params differ from where all of them start, and are finite."""
    shared = fits[1][0][:7]
    assert shared.isfinite().all()
    assert (shared - fits[1][0][7:]).abs().amax(-1).min() > 0.05


@pytest.mark.parametrize("shards", [2, 3, 4])
def test_model_params_are_trained_by_all_shards(shards: int, column: Callable[..., Column]) -> None:
    columns = [column(seed, estimator=estimators.stl, steps=STEPS) for seed in range(3)]
    fitted = []
    for cuts in (CUTS[1], CUTS[shards]):
        made = group(cuts, "mean_field", columns, build_with_param)
        states, _ = made.advance(made.start(), STEPS)
        fitted.append(made.programs[0].model_params(made.shared(states)))
    assert difference(fitted[1], fitted[0]) < TOLERANCE
    assert (fitted[0][:3] - 0.1).abs().min() > 0.1


def test_one_shard_is_the_plain_pack(column: Callable[..., Column]) -> None:
    """Where no latent is local, a group of one shard and a pack without shards are the same fit."""
    columns = [column(seed, steps=50) for seed in range(8)]
    made = group(CUTS[1], "full_rank", columns, build_with_param)
    program = made.programs[0]
    states, _ = made.advance(made.start(), 50)
    plain, _ = program.advance(program.start(), 50)
    assert difference(states[0].params, plain.params) < 1e-12


def test_chunks_change_nothing(column: Callable[..., Column]) -> None:
    whole, parts = (group(CUTS[2], "mean_field", every_kind(column)) for _ in range(2))
    expected, _ = whole.advance(whole.start(), 30)
    states = parts.start()
    for steps in (7, 1, 22):
        states, _ = parts.advance(states, steps)
    for one, other in zip(states, expected, strict=True):
        assert torch.equal(one.params, other.params)


def test_a_point_estimate_with_local_points(column: Callable[..., Column]) -> None:
    columns = [column(0, steps=STEPS)]
    ends = []
    for cuts in (CUTS[1], CUTS[4]):
        made = group(cuts, "delta", columns)
        states, _ = made.advance(made.start(), STEPS)
        ends.append(made.shared(states)[0])
    assert difference(ends[1], ends[0]) < TOLERANCE


def test_local_noise_belongs_to_the_row_and_not_to_its_place() -> None:
    steps = torch.tensor([[3]])
    whole = NormalSource(NoiseSpace((NoiseSite("a", 30, torch.arange(10)),)), [1], F64)(0, steps, 2)
    some = torch.tensor([7, 2, 9])
    part = NormalSource(NoiseSpace((NoiseSite("mu", 3), NoiseSite("a", 9, some))), [1], F64)(0, steps, 2)
    assert torch.equal(part[..., 3:].reshape(1, 1, 2, 3, 3), whole.reshape(1, 1, 2, 10, 3)[..., some, :])


@pytest.mark.slow
def test_compiled_shards_are_the_same_up_to_the_order_of_sums(
    column: Callable[..., Column], tmp_path: Any
) -> None:
    columns, cuts = every_kind(column)[:2], [(0, 18), (18, 36)]  # of one size, so that they share a program
    plain, compiled = (group(cuts, "mean_field", columns) for _ in range(2))
    assert compiled.compile("always", 1, tmp_path).compiled
    expected, _ = plain.advance(plain.start(), 20)
    states, _ = compiled.advance(compiled.start(), 20)
    assert difference(compiled.shared(states), plain.shared(expected)) < 1e-9
    assert len(list(tmp_path.glob("*.pt2"))) == 3, (
        "the rows' half for the owner and for others, the rest for both"
    )


def test_what_the_reduction_carries_is_counted(column: Callable[..., Column]) -> None:
    """S (d + 1) numbers per configuration and step, and one for a param of the model."""
    made = group(CUTS[2], "mean_field", [column(0, steps=5)], build_with_param)
    made.advance(made.start(), 5)
    assert made.times.reduced_bytes / made.times.steps == 8 * 4 * (1 + 1 + 1) * 8


def test_a_local_slope_that_is_not_finite_is_a_skipped_step_on_every_shard(
    column: Callable[..., Column],
) -> None:
    """Its square root has no slope at 0, and autograd of the unused branch gives NaN beside a finite log density."""

    def torn(x: Tensor, y: Tensor) -> Model:
        @random_variable
        def mu() -> Distribution:
            return Normal(torch.tensor(0.0), 3.0)

        @random_variable
        def level() -> Distribution:
            return Normal(mu().expand(y.shape), 1.0)

        @random_variable
        def obs() -> Distribution:
            return Normal(torch.where(x == x.max(), ((level() - level()).abs()).sqrt(), level()), 1.0)

        return Model([mu()], {obs(): y}, local=[level()])

    made = group(CUTS[2], "mean_field", [column(0, steps=30)], torn)
    states, _ = made.advance(made.start(), 30)
    for state in states:
        assert state.skipped.tolist()[0] == 20
        assert not bool(state.alive[0])
