"""A pack's step is the textbook's, and a column's numbers depend on nothing but the column."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Gamma, HalfCauchy, MultivariateNormal, Normal

from vi_dist.errors import SpecError
from vi_dist.model.decorators import param, random_variable
from vi_dist.model.model import Model
from vi_dist.vi.columns import Column
from vi_dist.vi.context import model_context
from vi_dist.vi.divergences import (
    DIVERGENCES,
    Divergence,
    amari,
    as_divergence,
    jeffreys,
    jensen_shannon,
    kl_forward,
    kl_reverse,
    modified_gan,
    neyman_chi2,
    pearson_chi2,
)
from vi_dist.vi.estimators import (
    ESTIMATORS,
    Estimator,
    check_combination,
    dreg,
    iwae,
    reparam,
    score,
    self_normalised,
    slopes,
    stl,
    vr_iwae,
)
from vi_dist.vi.noise import SHIFT, TRAINING, NormalSource
from vi_dist.vi.pack import SHIFT_DRAWS, PackProgram
from vi_dist.vi.state import PackState
from vi_dist.vi.step import MAX_STREAK, SHIFT_RATE
from vi_dist.vi.trace import JointProgram

F32, F64 = torch.float32, torch.float64
Make = Callable[..., Any]


# -- models ------------------------------------------------------------------------------------------------------------


def rv(name: str, function: Callable[[], Distribution]) -> Any:
    """A random variable of that name."""
    function.__name__ = name
    return random_variable(function)


def normal_normal(data: float = 1.0, scale: float = 1.0) -> Model:
    """theta ~ N(0, 1), y ~ N(theta, scale): posterior N(y / (1 + scale^2), scale^2 / (1 + scale^2))."""
    theta = rv("theta", lambda: Normal(0.0, 1.0))
    y = rv("y", lambda: Normal(theta(), scale))
    return Model([theta()], {y(): torch.tensor(data)})


def positive() -> Model:
    """Two latents, one of them positive, the other's scale."""
    tau = rv("tau", lambda: Gamma(2.0, 1.0))
    x = rv("x", lambda: Normal(torch.ones(2), tau()))
    y = rv("y", lambda: Normal(x(), 0.5))
    return Model([x()], {y(): torch.tensor([0.3, 1.4])})


def eight_schools() -> Model:
    scale = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18])
    mu = rv("mu", lambda: Normal(0.0, 5.0))
    tau = rv("tau", lambda: HalfCauchy(5.0))
    eta = rv("eta", lambda: Normal(torch.zeros(8), 1.0))
    y = rv("y", lambda: Normal(mu() + tau() * eta(), scale))
    return Model([mu(), tau(), eta()], {y(): torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12])})


def logistic() -> Model:
    """1000 x 25, as large as German credit."""
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(1000, 25, generator=generator, dtype=F64)
    truth = 0.5 * torch.randn(25, generator=generator, dtype=F64)
    seen = (torch.rand(1000, generator=generator, dtype=F64) < torch.sigmoid(data @ truth)).to(data)
    data, seen = data.to(torch.get_default_dtype()), seen.to(torch.get_default_dtype())
    beta = rv("beta", lambda: Normal(torch.zeros(25), 1.0))
    y = rv("y", lambda: Bernoulli(logits=data @ beta()))
    return Model([beta()], {y(): seen})


def empirical_bayes() -> Model:
    """x_i ~ N(eta, 1), y_i ~ N(x_i, 1): the evidence is largest where eta is the mean of y."""
    eta = param(lambda: torch.tensor(-1.0))
    x = rv("x", lambda: Normal(eta() * torch.ones(4), 1.0))
    y = rv("y", lambda: Normal(x(), 1.0))
    return Model([x()], {y(): torch.tensor([0.5, 1.5, 2.0, 4.0])})


# -- the textbook's gradients ------------------------------------------------------------------------------------------


def every_pair(model_params: bool = False) -> list[tuple[str, Divergence, Estimator]]:
    """All combinations that are not refused, by name."""
    divergences = [entry.make() for entry in DIVERGENCES.values() if not entry.arguments]
    divergences += [
        amari(-0.5),
        amari(0.0),
        amari(0.5),
        amari(1.0),
        as_divergence(lambda l: torch.expm1(-l / 3)),
    ]
    estimators = [entry.make() for entry in ESTIMATORS.values() if not entry.arguments] + [
        vr_iwae(0.0),
        vr_iwae(0.4),
    ]
    found = []
    for divergence in divergences:
        for estimator in estimators:
            try:
                check_combination(divergence, estimator, model_params=model_params)
            except SpecError:
                continue
            found.append((f"{divergence.name}{divergence.arguments}-{estimator.name}", divergence, estimator))
    return found


def textbook(
    column: Column, l: Tensor, l_stop: Tensor, log_q_fixed: Tensor, log_p_fixed: Tensor, c: Tensor
) -> tuple[Tensor, Tensor]:
    """The surrogate whose gradient trains params, and the objective, as MATH.md writes them.

    Of `(S,)` each: l with everything live; l_stop with log q's own params detached; log q and log p at detached z.
    """
    g, name, samples = column.divergence, column.estimator.name, len(l)
    c = c if column.needs_shift else torch.zeros_like(c)
    value, first, second = slopes(g, l.detach() - c)
    log_mean = torch.logsumexp(l, 0) - math.log(samples)
    big, big_first, big_second = slopes(g, (log_mean.detach() - c)[None])
    share = torch.softmax(l, 0).detach()
    # Where a surrogate of l_stop trains the guide, the model takes its own coefficients on log p at fixed z.
    if name in ("reparam", "mixed"):
        surrogate, objective = g(l - c).mean(), value.mean()
    elif name == "score":
        reward = value - first
        baseline = (reward.sum() - reward) / (samples - 1)
        surrogate = ((reward - baseline) * log_q_fixed).mean() + (first * log_p_fixed).mean()
        objective = value.mean()
    elif name == "stl":
        surrogate = ((first - second) * l_stop).mean() + (second * log_p_fixed).mean()
        objective = value.mean()
    elif name == "iwae":
        surrogate, objective = g(log_mean - c), big[0]
    elif name == "dreg":
        path = (big_first - big_second) * share**2
        surrogate = (path * l_stop).sum() + ((big_first * share - path) * log_p_fixed).sum()
        objective = big[0]
    elif name == "vr_iwae":
        order = column.estimator.arguments[0]
        power = torch.softmax((1 - order) * l, 0).detach()
        path = order * power + (1 - order) * power**2
        surrogate = -(path * l_stop).sum() - ((power - path) * log_p_fixed).sum()
        objective = -(torch.logsumexp((1 - order) * l.detach(), 0) - math.log(samples)) / (1 - order)
    else:
        alpha = g.power
        surrogate = -(torch.softmax(alpha * l, 0).detach() * l_stop).sum()
        objective = self_normalised(l.detach()[None], g).loss[0]
    return surrogate, objective


def textbook_gradient(
    made: Any, column: Column, params: Tensor, eps: Tensor, c: Tensor, program: PackProgram
) -> tuple[Tensor, Tensor]:
    """Gradient `(P,)` of one column by plain autograd through guide and World; and the objective."""
    live = params.clone().requires_grad_()
    fixed = {name: leaf.detach() for name, leaf in program.leaves(live[None]).items()}
    leaves, eta = program.leaves(live[None]), program.model_params(live[None])[0]
    z = made.family.draw(leaves, eps[None])[0]

    def log_p(points: Tensor) -> Tensor:
        with model_context(F64):
            return torch.stack([made.density(torch.cat((point, eta))) for point in points])

    def log_q(given: dict[str, Tensor], points: Tensor) -> Tensor:
        return made.family.log_prob(given, points[None])[0]

    own = log_p(z)
    surrogate, objective = textbook(
        column, own - log_q(leaves, z), own - log_q(fixed, z), log_q(leaves, z.detach()), log_p(z.detach()), c
    )
    (gradient,) = torch.autograd.grad(surrogate, live)
    return gradient, objective


def assert_textbook(made: Any, columns: list[Column], samples: int = 3) -> None:
    """The first step of gradient descent at rate 1, from slightly moved params, is minus the textbook's gradient."""
    program = made.program(columns, samples=samples, optimizer="sgd")
    state = program.start()
    moved = state.params + 0.1 * torch.randn(
        state.params.shape, generator=torch.Generator().manual_seed(1), dtype=F64
    )
    state = replace(state, params=moved)
    after, trajectory = program.advance(state, 1)
    source = NormalSource(made.family.noise, [one.seed for one in columns], F64)
    eps = source(TRAINING, state.step[None], samples)[0]
    for row, one in enumerate(columns):
        gradient, objective = textbook_gradient(made, one, moved[row], eps[row], state.shift[row], program)
        taken = state.params[row] - after.params[row]
        scale = float(gradient.abs().max()) + 1e-6
        label = (
            f"{one.divergence.name}{one.divergence.arguments} {one.estimator.name}{one.estimator.arguments}"
        )
        torch.testing.assert_close(
            taken / scale, gradient / scale, rtol=0, atol=1e-10, msg=lambda m, x=label: f"{x}: {m}"
        )
        torch.testing.assert_close(trajectory.loss[0, row], objective, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(trajectory.grad_norm[0, row], gradient.norm(), rtol=1e-9, atol=1e-12)


PLAIN = {"optimizer": "sgd", "learning_rate": 1.0}


def as_loop(made: Any) -> Any:
    """The same engine, stepping without a graph."""
    return replace(made, joint=JointProgram("loop", "for comparison", 0, made.joint.one))


def test_every_gradient_is_the_textbook_s(engine: Make, column: Make) -> None:
    """Every divergence with every estimator, to 1e-10."""
    columns = [
        column(seed, divergence=d, estimator=e, **PLAIN) for seed, (_, d, e) in enumerate(every_pair())
    ]
    assert len(columns) > 80
    assert_textbook(as_loop(engine(positive, "full_rank")), columns)


def test_the_traced_step_is_the_textbook_s_too(engine: Make, column: Make) -> None:
    choices = [(kl_reverse, stl), (jensen_shannon, reparam), (kl_forward, self_normalised), (amari(0.3), score),
               (amari(0.7), dreg), (neyman_chi2, iwae), (kl_reverse, vr_iwae(0.4))]  # fmt: skip
    made = engine(positive, "full_rank")
    assert made.joint.mode == "flat"
    assert_textbook(made, [column(s, divergence=d, estimator=e, **PLAIN) for s, (d, e) in enumerate(choices)])


def test_params_of_the_model_take_their_own_coefficients(engine: Make, column: Make) -> None:
    pairs = every_pair(model_params=True)
    assert {estimator.name for _, _, estimator in pairs} == set(ESTIMATORS) - {"self_normalised"}
    columns = [column(seed, divergence=d, estimator=e, **PLAIN) for seed, (_, d, e) in enumerate(pairs)]
    assert_textbook(as_loop(engine(empirical_bayes)), columns)


def test_a_perturbed_coefficient_would_be_seen(engine: Make, column: Make) -> None:
    """The comparison above can fail: an stl that forgets g'' is caught."""
    wrong = replace(stl, function=lambda l, g: replace(reparam(l, g), score=torch.zeros_like(l)))
    with pytest.raises(AssertionError, match="jensen_shannon"):
        assert_textbook(
            engine(normal_normal), [column(0, divergence=jensen_shannon, estimator=wrong, **PLAIN)]
        )


@pytest.mark.parametrize(
    ("optimizer", "peer"),
    [
        ("adam", lambda p, k: torch.optim.AdamW(p, 0.05, weight_decay=k["weight_decay"])),
        ("sgd", lambda p, k: torch.optim.SGD(p, 0.05, momentum=k["momentum"])),
    ],
)
def test_a_fit_is_a_hand_written_loop(engine: Make, column: Make, optimizer: str, peer: Any) -> None:
    """Noise, gradient, clipping, schedule and update, ten steps, against torch's optimizer, scheduler and autograd."""
    coefficients = {"adam": {"weight_decay": 0.1}, "sgd": {"momentum": 0.8}}[optimizer]
    one = column(
        5, optimizer, coefficients, estimator=stl, steps=10, schedule=("cosine", {"final": 0.1}), clip=2.0
    )
    made = engine(positive, "full_rank")
    program = made.program([one], optimizer=optimizer)
    state = program.start()
    params = state.params[0].clone().requires_grad_()
    theirs = peer([params], coefficients)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=10, eta_min=0.005)
    source = NormalSource(made.family.noise, [5], F64)
    for step in range(10):
        eps = source(TRAINING, torch.tensor([[step]]), 4)[0, 0]
        params.grad, _ = textbook_gradient(made, one, params.detach(), eps, state.shift[0], program)
        torch.nn.utils.clip_grad_norm_([params], 2.0)
        theirs.step()
        scheduler.step()
    after, _ = program.advance(state, 10)
    torch.testing.assert_close(after.params[0], params.detach(), rtol=1e-10, atol=1e-10)


# -- promise 1: a column does not depend on where it ran ---------------------------------------------------------------

MIXED = [
    (kl_reverse, stl),
    (jensen_shannon, dreg),
    (amari(0.3), self_normalised),
    (kl_reverse, score),
    (amari(0.3), reparam),
]


def mixed(column: Make, steps: int, optimizer: str = "adam") -> list[Column]:
    return [
        column(seed, optimizer, divergence=d, estimator=e, steps=steps, learning_rate=0.01 * (1 + seed))
        for seed, (d, e) in enumerate(MIXED)
    ]


def of_row(state: PackState, row: int) -> list[Tensor]:
    return [
        state.buffers[:, row] if f.name == "buffers" else getattr(state, f.name)[row]
        for f in fields(PackState)
    ]


def assert_same_column(first: PackState, row: int, second: PackState, other: int) -> None:
    for a, b, field in zip(of_row(first, row), of_row(second, other), fields(PackState), strict=True):
        assert torch.equal(a, b), field.name


@pytest.mark.parametrize(
    ("build", "family", "dtype", "steps"),
    [
        (eight_schools, "mean_field", F32, 25),
        (logistic, "full_rank", F64, 10),
    ],
    ids=["schools-mean_field-32", "logistic-full_rank-64"],
)
def test_alone_equals_any_position_among_any_neighbours(
    engine: Make, column: Make, build: Callable[[], Model], family: str, dtype: torch.dtype, steps: int
) -> None:
    """Bitwise, at one width; one of the neighbours is NaN from its second step on."""
    made = engine(build, family, dtype)
    columns = mixed(column, steps)
    spoiled = column(99, learning_rate=math.inf, divergence=amari(0.6), estimator=reparam, steps=steps)
    other = column(96, divergence=modified_gan, estimator=stl, steps=steps)
    packed = made.program(columns, 8)
    together, curves = packed.advance(packed.start(), steps)
    shuffled = made.program([column(98, steps=2), spoiled, other, *columns[::-1]], 8)
    elsewhere, other_curves = shuffled.advance(shuffled.start(), steps)
    assert not bool(elsewhere.params[1].isfinite().all())
    for row in range(len(columns)):
        assert_same_column(together, row, elsewhere, 7 - row)
        assert torch.equal(curves.loss[:, row], other_curves.loss[:, 7 - row])
    for row in (2, 4):
        single = made.program([columns[row]], 8)
        alone, _ = single.advance(single.start(), steps)
        assert_same_column(alone, 0, together, row)


def test_widths_agree_up_to_rounding(engine: Make, column: Make) -> None:
    made = engine(positive, "full_rank")
    found = []
    for width in (2, 16):
        program = made.program(mixed(column, 20)[:2], width)
        found.append(program.advance(program.start(), 20)[0].params[:2])
    torch.testing.assert_close(*found, rtol=1e-11, atol=1e-12)


def test_a_loop_gives_the_numbers_of_the_graph(engine: Make, column: Make) -> None:
    made = engine(positive, "full_rank")
    found = []
    for one in (made, as_loop(made)):
        program = one.program(mixed(column, 5))
        found.append(program.advance(program.start(), 5))
    torch.testing.assert_close(found[0][0].params, found[1][0].params, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(found[0][1].loss, found[1][1].loss, rtol=1e-10, atol=1e-10)


def test_a_compilation_that_fails_leaves_the_eager_graph(
    engine: Make, column: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, other = (engine(positive).program([column(steps=3)]) for _ in range(2))
    nowhere = tmp_path / "file"
    nowhere.touch()
    decision = made.compile("always", 1, nowhere / "programs")
    assert not decision.compiled
    assert "runs eagerly" in decision.reason
    assert "compilation failed" in caplog.text
    assert_same_column(made.advance(made.start(), 3)[0], 0, other.advance(other.start(), 3)[0], 0)


def test_configurations_end_after_their_own_number_of_steps(engine: Make, column: Make) -> None:
    made = engine(normal_normal)
    columns = [column(seed, steps=steps) for seed, steps in enumerate((7, 0, 20, 12))]
    program = made.program(columns, 8)
    state, trajectory = program.advance(program.start(), 20)
    assert state.step.tolist() == [7, 0, 20, 12, 0, 0, 0, 0]
    assert state.alive.tolist() == [True] * 8
    for record in (trajectory.loss, trajectory.elbo, trajectory.grad_norm):
        assert record.shape == (20, 8)
        assert record.isfinite().sum(0).tolist() == [7, 0, 20, 12, 0, 0, 0, 0]
    assert torch.equal(state.params[1], program.start().params[1])
    further, _ = program.advance(state, 5)
    for row in range(8):
        assert_same_column(state, row, further, row)
    early, _ = program.advance(program.start(), 7)
    assert_same_column(early, 0, state, 0)


def test_saved_and_continued_equals_uninterrupted(engine: Make, column: Make) -> None:
    """Bitwise, for any split, and from bytes in a program made anew; also at the very start."""
    made = engine(positive, "full_rank")
    columns = mixed(column, 18)
    program = made.program(columns, 8)
    whole, curve = program.advance(program.start(), 18)
    again = made.program(columns, 8)
    state, curves = again.start(), []
    for steps in (0, 1, 6, 0, 11):
        state, part = again.advance(PackState.from_bytes(state.to_bytes()), steps)
        curves.append(part.loss)
        assert part.loss.shape == (steps, 8)
    for row in range(8):
        assert_same_column(whole, row, state, row)
    assert torch.equal(torch.cat(curves).nan_to_num(), curve.loss.nan_to_num())
    assert state.step[:4].tolist() == [18] * 4


def test_noise_made_in_blocks_is_the_same_noise(
    engine: Make, column: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = engine(normal_normal)
    program = made.program(mixed(column, 20))
    whole, _ = program.advance(program.start(), 20)
    monkeypatch.setattr("vi_dist.vi.pack.NOISE_BLOCK", 3 * 4 * 4)
    parts, _ = program.advance(program.start(), 20)
    for row in range(len(MIXED)):
        assert_same_column(whole, row, parts, row)


def test_the_same_seed_under_two_choices_gets_the_same_noise(engine: Make, column: Make) -> None:
    program = engine(normal_normal).program(
        [column(3, estimator=stl), column(3, estimator=reparam), column(4)]
    )
    _, trajectory = program.advance(program.start(), 1)
    assert trajectory.elbo[0, 0] == trajectory.elbo[0, 1] != trajectory.elbo[0, 2]


def test_at_width_256_a_step_calls_no_python_of_the_model(engine: Make, column: Make) -> None:
    calls = []

    def counted() -> Model:
        theta = rv("theta", lambda: Normal(calls.append(1) or 0.0, 1.0))
        y = rv("y", lambda: Normal(theta(), 1.0))
        return Model([theta()], {y(): torch.tensor(1.0)})

    made = engine(counted)
    program = made.program([column(seed) for seed in range(256)])
    state, _ = program.advance(program.start(), 1)
    before = len(calls)
    assert before > 0
    program.advance(state, 3)
    assert len(calls) == before


# -- what goes wrong is isolated, counted and reported -----------------------------------------------------------------


def test_a_diverged_column_is_given_up_and_named(engine: Make, column: Make) -> None:
    steps = MAX_STREAK + 15
    program = engine(normal_normal).program(
        [column(0, steps=steps), column(1, steps=steps, learning_rate=math.inf)]
    )
    state, trajectory = program.advance(program.start(), steps)
    assert state.alive.tolist() == [True, False]
    assert state.skipped.tolist() == [0, MAX_STREAK]
    assert state.step.tolist() == [steps, MAX_STREAK + 1]
    assert int(state.streak[1]) == MAX_STREAK
    recorded = (~trajectory.loss[:, 1].isnan()).nonzero()
    assert recorded.max() <= MAX_STREAK
    assert bool(state.params[0].isfinite().all())


def cliff() -> Model:
    """A density that is NaN beyond a point that draws reach now and then."""
    theta = rv("theta", lambda: Normal(0.0, 1.0))
    y = rv("y", lambda: Normal(torch.sqrt(1.3 - theta()), 1.0))
    return Model([theta()], {y(): torch.tensor(0.2)})


def test_steps_without_a_finite_gradient_are_skipped_and_counted(engine: Make, column: Make) -> None:
    """Params, moments and bias correction stay as they were: the same as torch's Adam that is not called."""
    made = engine(cliff)
    one = column(2, steps=60, learning_rate=0.1)
    program = made.program([one])
    state = program.start()
    params = state.params[0].clone().requires_grad_()
    adam = torch.optim.Adam([params], 0.1)
    source = NormalSource(made.family.noise, [2], F64)
    skipped = 0
    for step in range(60):
        eps = source(TRAINING, torch.tensor([[step]]), 4)[0, 0]
        gradient, _ = textbook_gradient(made, one, params.detach(), eps, state.shift[0], program)
        if bool(gradient.isfinite().all()):
            params.grad = gradient
            adam.step()
        else:
            skipped += 1
    assert 3 < skipped < 50
    after, trajectory = program.advance(state, 60)
    assert int(after.skipped) == skipped
    assert int(after.step) == 60
    assert bool(after.alive)
    assert int((~trajectory.loss.isfinite()).sum()) == skipped
    torch.testing.assert_close(after.params[0], params.detach(), rtol=1e-9, atol=1e-10)


def test_score_does_not_mind_a_gradient_it_does_not_use(engine: Make, column: Make) -> None:
    """The density is finite and its gradient NaN at 0: only the estimators that follow the path stop."""

    def rough() -> Model:
        theta = rv("theta", lambda: Normal(0.0, 1.0))

        # The square root of 0 has an infinite slope, and that times 0 is NaN.
        y = rv("y", lambda: Normal(theta() + torch.sqrt(0.0 * theta()), 1.0))
        return Model([theta()], {y(): torch.tensor(0.2)})

    program = engine(rough).program([column(0, estimator=score), column(1, estimator=reparam)])
    state, _ = program.advance(program.start(), 5)
    assert state.skipped.tolist() == [0, 5]


def test_clamped_samples_are_counted(engine: Make, column: Make) -> None:
    columns = [
        column(0, divergence=kl_forward, estimator=reparam),
        column(1, divergence=jeffreys, estimator=stl),
        column(2, divergence=pearson_chi2, estimator=reparam),
        column(3, divergence=amari(-2.0), estimator=reparam),
    ]
    program = engine(lambda: normal_normal(40.0, 0.01), dtype=F32).program(columns, samples=8)
    state, _ = program.advance(program.start(), 10)
    assert bool((state.clamped > 0).all())
    assert bool(state.params.isfinite().all())
    assert state.skipped[2:].tolist() == [0, 0], "the steep ones have limits of their own"


# -- the shift ---------------------------------------------------------------------------------------------------------


def test_the_shift_starts_from_its_own_draws_and_follows_earlier_steps(engine: Make, column: Make) -> None:
    made = engine(positive)
    program = made.program([column(0, divergence=jensen_shannon, estimator=stl), column(1)])
    start = program.start()
    source = NormalSource(made.family.noise, [0, 1], F64)
    eps = source(SHIFT, torch.zeros(1, 2), SHIFT_DRAWS)[0]
    leaves = program.leaves(start.params)
    z = made.family.draw(leaves, eps)
    l = made.joint.value(z.reshape(-1, z.shape[-1])).reshape(2, -1) - made.family.log_prob(leaves, z)
    first = torch.logsumexp(l[0], 0) - math.log(SHIFT_DRAWS)
    torch.testing.assert_close(
        start.shift, torch.stack((first, torch.zeros_like(first))), rtol=1e-12, atol=1e-12
    )
    after, trajectory = program.advance(start, 1)
    z = made.family.draw(leaves, source(TRAINING, start.step[None], 4)[0])
    l = made.joint.value(z.reshape(-1, z.shape[-1])).reshape(2, -1) - made.family.log_prob(leaves, z)
    seen = torch.logsumexp(l[0], 0) - math.log(4)
    torch.testing.assert_close(
        trajectory.loss[0, 0], jensen_shannon(l[0] - first).mean(), rtol=1e-12, atol=1e-12
    )
    average = torch.log((1 - SHIFT_RATE) * first.exp() + SHIFT_RATE * seen.exp())
    torch.testing.assert_close(after.shift[0], average, rtol=1e-12, atol=1e-12)
    assert after.shift[1] == 0


def test_the_shift_reaches_the_log_evidence(engine: Make, column: Make) -> None:
    """On a Normal-Normal, where the guide can be exact, for divergences whose minimiser depends on it."""
    columns = [
        column(seed, divergence=d, estimator=e, steps=400, schedule=("cosine", {}))
        for seed, (d, e) in enumerate(
            [(jensen_shannon, stl), (jeffreys, stl), (modified_gan, dreg), (amari(0.5), stl)]
        )
    ]
    program = engine(lambda: normal_normal(2.0)).program(columns, samples=16)
    state, _ = program.advance(program.start(), 400)
    log_evidence = -0.25 * 2.0**2 - 0.5 * math.log(4 * math.pi)
    assert state.shift.tolist() == pytest.approx([log_evidence] * 4, abs=0.04)
    leaves = program.leaves(state.params)
    assert leaves["loc"][:, 0].tolist() == pytest.approx([1.0] * 4, abs=0.04)
    deviation = torch.nn.functional.softplus(leaves["raw_scale"][:, 0])
    assert deviation.tolist() == pytest.approx([math.sqrt(0.5)] * 4, abs=0.04)


# -- oracles -----------------------------------------------------------------------------------------------------------


def with_scale(program: PackProgram, deviation: float, mean: float | None = None) -> PackState:
    """The first state, its mean-field guides given this standard deviation, and this mean if there is one."""
    state = program.start()
    params = state.params.clone()
    size = params.shape[1] // 2
    params[:, size:] = math.log(math.expm1(deviation))
    if mean is not None:
        params[:, :size] = mean
    return replace(state, params=params)


def test_at_q_equal_p_stl_and_score_have_no_variance_and_reparam_has(engine: Make, column: Make) -> None:
    choices = [
        (d, e)
        for d in (kl_reverse, kl_forward, jensen_shannon, amari(0.5), jeffreys, modified_gan)
        for e in (stl, score, dreg, reparam)
    ]
    columns = [column(s, divergence=d, estimator=e, **PLAIN) for s, (d, e) in enumerate(choices)]
    program = as_loop(engine(lambda: normal_normal(2.0))).program(columns, optimizer="sgd")
    log_evidence = -0.25 * 2.0**2 - 0.5 * math.log(4 * math.pi)
    shift = torch.full((program.width,), log_evidence - 0.3, dtype=F64)  # where g' is not 0
    state = replace(with_scale(program, math.sqrt(0.5), 1.0), shift=shift)
    _, trajectory = program.advance(state, 1)
    for row, (d, e) in enumerate(choices):
        expected = d(torch.tensor(log_evidence if d is kl_reverse else 0.3, dtype=F64))
        torch.testing.assert_close(trajectory.loss[0, row], expected, rtol=1e-12, atol=1e-13)
        if e is reparam:
            assert float(trajectory.grad_norm[0, row]) > 1e-2
        else:
            assert float(trajectory.grad_norm[0, row]) < 1e-13


RHO = 0.7


def correlated() -> Model:
    covariance = torch.tensor([[1.0, RHO], [RHO, 1.0]])
    x = rv("x", lambda: MultivariateNormal(torch.tensor([0.5, -1.0]), covariance))
    return Model([x()], {})


def mean_field_variance(alpha: float) -> float:
    if alpha == 0:
        return 1 - RHO**2
    return ((2 * alpha - 1) + math.sqrt((2 * alpha - 1) ** 2 + 4 * alpha * (1 - alpha) * (1 - RHO**2))) / (
        2 * alpha
    )


def test_mean_field_variances_under_amari(engine: Make, column: Make) -> None:
    """t(alpha) of MATH.md, reached by literal and by self-normalised estimators, monotone in alpha."""
    alphas = (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0)
    columns = [
        column(seed, divergence=amari(alpha), estimator=estimator, steps=400, schedule=("cosine", {}))
        for seed, (estimator, alpha) in enumerate((e, a) for e in (stl, self_normalised) for a in alphas)
    ]
    program = engine(correlated).program(columns, samples=128)
    # Literal estimators have no second moments where the guide is much narrower than the target.
    state, _ = program.advance(with_scale(program, 0.9), 400)
    leaves = program.leaves(state.params)
    variances = torch.nn.functional.softplus(leaves["raw_scale"]).square()
    wanted = torch.tensor([mean_field_variance(alpha) for alpha in alphas], dtype=F64)
    # Adam's last steps leave about a percent; self-normalised weights add a bias of order 1 / samples.
    for row, found in enumerate(variances.mean(-1).reshape(2, -1)):
        torch.testing.assert_close(found, wanted, rtol=0.03 if row == 0 else 0.05, atol=0)
        assert bool((found.diff() > 0).all())
    assert leaves["loc"][:, 0].tolist() == pytest.approx([0.5] * 12, abs=0.05)
    assert leaves["loc"][:, 1].tolist() == pytest.approx([-1.0] * 12, abs=0.05)


A, B = 3.0, 2.0


def gamma() -> Model:
    x = rv("x", lambda: Gamma(A, B))
    return Model([x()], {})


def test_gamma_by_reverse_and_forward_kl(engine: Make, column: Make) -> None:
    columns = [
        column(seed, divergence=d, estimator=e, steps=400, schedule=("cosine", {}))
        for seed, (d, e) in enumerate(
            [(kl_reverse, stl), (kl_reverse, reparam), (kl_forward, stl), (kl_forward, self_normalised)]
        )
    ]
    program = engine(gamma).program(columns, samples=128)
    state, _ = program.advance(with_scale(program, 0.6), 400)
    leaves = program.leaves(state.params)
    mean, variance = leaves["loc"][:, 0], torch.nn.functional.softplus(leaves["raw_scale"][:, 0]).square()
    a = torch.tensor(A, dtype=F64)
    reverse = (math.log(A / B) - 1 / (2 * A), 1 / A)
    forward = (float(torch.digamma(a)) - math.log(B), float(torch.polygamma(1, a)))
    assert mean.tolist() == pytest.approx([reverse[0]] * 2 + [forward[0]] * 2, abs=0.015)
    assert variance.tolist() == pytest.approx([reverse[1]] * 2 + [forward[1]] * 2, rel=0.04)


def test_delta_finds_the_mode_in_the_model_s_own_space(engine: Make, column: Make) -> None:
    program = engine(gamma, "delta").program([column(steps=400, schedule=("cosine", {}))], samples=1)
    state, trajectory = program.advance(program.start(), 400)
    assert float(state.params[0, 0].exp()) == pytest.approx((A - 1) / B, abs=1e-6)
    assert float(-trajectory.loss[-1]) == pytest.approx(
        float(Gamma(A, B).log_prob(torch.tensor((A - 1) / B))), abs=1e-6
    )


def test_empirical_bayes_reaches_the_maximum_of_the_evidence(engine: Make, column: Make) -> None:
    choices = [(kl_reverse, e) for e in (stl, reparam, score, iwae, dreg, vr_iwae(0.5))] + [
        (modified_gan, stl)
    ]
    columns = [
        column(seed, divergence=d, estimator=e, steps=500, schedule=("cosine", {}))
        for seed, (d, e) in enumerate(choices)
    ]
    program = engine(empirical_bayes).program(columns, samples=16)
    state, _ = program.advance(program.start(), 500)
    eta = program.model_params(state.params)[:, 0]
    assert eta.tolist() == pytest.approx([2.0] * len(choices), abs=0.08)


def test_bytes_keep_every_field(engine: Make, column: Make) -> None:
    program = engine(normal_normal, dtype=F32).program([column(0, divergence=kl_forward), column(1)])
    for state in (program.start(), program.advance(program.start(), 3)[0]):
        for kept, original in zip(
            PackState.from_bytes(state.to_bytes()).tensors(), state.tensors(), strict=True
        ):
            assert torch.equal(kept, original)
            assert kept.dtype == original.dtype


@pytest.mark.parametrize("family", ["full_rank", "structured"])
def test_a_model_of_one_coordinate_has_an_empty_triangle(
    engine: Callable[..., Any], column: Callable[..., Column], family: str
) -> None:
    """The guide's off-diagonal part has no entry then, which is a shape that a pack must carry too."""

    def single() -> Model:
        mu = random_variable(lambda: Normal(torch.zeros(()), 1.0))
        return Model([mu()], {})

    program = engine(single, family).program([column(estimator=stl), column(seed=1, estimator=stl)])
    state, trajectory = program.advance(program.start(), 100)
    assert trajectory.elbo.isfinite().all()
    assert trajectory.elbo[-1].abs().max() < 0.2
    assert program.leaves(state.params)["loc"].shape == (2, 1)
