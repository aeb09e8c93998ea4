"""Guides made from the model, and a Bean Machine program with only its import changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Beta,
    Dirichlet,
    Distribution,
    Exponential,
    Gamma,
    Independent,
    LKJCholesky,
    LogNormal,
    MultivariateNormal,
    Normal,
    Uniform,
    constraints,
)

import vi_dist as bm
from vi_dist.errors import ModelError
from vi_dist.model.decorators import functional, random_variable
from vi_dist.model.delta import Delta
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.prior_median import prior_median
from vi_dist.vi.autoguide import ADVI, MAP, AutoGuideVI, FullRankADVI
from vi_dist.vi.monte_carlo import monte_carlo_approximate, monte_carlo_approximate_reparam
from vi_dist.vi.variational_world import VariationalWorld

DOUBLE = torch.float64
SUPPORTS = [
    Normal(torch.zeros(3), 2.0),
    Independent(Normal(torch.zeros(3), 2.0), 1),
    Gamma(torch.full((2,), 3.0), 1.0),
    Uniform(-1.0, torch.full((4,), 3.0)),
    Beta(torch.tensor(2.0), 5.0),
    Dirichlet(torch.ones(4)),
    LKJCholesky(3, 1.0),
    Independent(LogNormal(torch.zeros(3, dtype=DOUBLE), 1.0), 1),
    MultivariateNormal(torch.zeros(2), torch.eye(2)),
]


def named(name: str, distribution: Callable[[], Distribution]) -> Callable[[], RVIdentifier]:
    """A random variable of this name."""
    distribution.__name__ = name
    return random_variable(distribution)


def adam(rate: float) -> Callable[..., torch.optim.Optimizer]:
    """Makes Adam with a learning rate."""
    return lambda params: torch.optim.Adam(params, lr=rate)


def stl(*arguments: Any, **keywords: Any) -> torch.Tensor:
    """Sticking the landing: no variance where guide and posterior agree."""
    return monte_carlo_approximate(*arguments, **keywords, estimator="stl")


@pytest.mark.parametrize("distribution", SUPPORTS, ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("engine", [ADVI, MAP, FullRankADVI])
def test_every_support(engine: type, distribution: Distribution) -> None:
    x = random_variable(lambda: distribution)
    vi = engine([x()], {})
    for _ in range(3):
        assert vi.step(2).isfinite()
    world = vi.initialize_world()
    guide = world.get_guide_distribution(x())
    drawn = distribution.sample()
    for value in (world[x()], guide.sample()):
        assert value.shape == drawn.shape and value.dtype == drawn.dtype
        assert bool(distribution.support.check(value).all())
    assert all(bool(param.isfinite().all()) for param in vi.params.values()) and vi.skipped_steps == 0


@pytest.mark.parametrize("engine", [ADVI, MAP, FullRankADVI])
def test_the_start_is_the_prior_median_whatever_the_seed(engine: type) -> None:
    x = random_variable(lambda: Gamma(torch.full((3,), 5.0), 2.0))
    starts = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        vi = engine([x()], {})
        starts.append([param.detach().clone() for param in vi.params.values()])
        torch.manual_seed(0)
        draws = torch.stack([vi.initialize_world()[x()] for _ in range(200)])
        assert torch.allclose(
            draws.log().mean(0), prior_median(Gamma(torch.full((3,), 5.0), 2.0)).log(), atol=0.03
        )
        spread = 0.0 if engine is MAP else 0.1
        assert torch.allclose(draws.log().std(0), torch.full((3,), spread), atol=0.02)
    assert all(torch.equal(*pair) for pair in zip(*starts, strict=True))


def test_advi_reaches_the_optimum_for_a_gamma() -> None:
    # Normal guide on log x of Gamma(a, b): mean ln(a / b) - 1 / (2 a), variance 1 / a.
    a, b = 4.0, 2.0
    x = random_variable(lambda: Gamma(torch.tensor(a, dtype=DOUBLE), b))
    for engine in (ADVI, FullRankADVI):
        vi = engine([x()], {}, optimizer=adam(0.1))
        path: list[torch.Tensor] = []

        def note(*_: Any, vi: Any = vi, path: Any = path) -> None:
            loc, raw = (param.detach().reshape(-1)[0] for param in list(vi.params.values())[:2])
            path.append(torch.stack((loc.clone(), torch.nn.functional.softplus(raw))))

        vi.infer(250, 2, mc_approx=stl, step_callback=note)
        mean, sd = torch.stack(path[-150:]).mean(0)
        assert abs(mean - (math.log(a / b) - 1 / (2 * a))) < 0.04
        assert abs(sd - 1 / math.sqrt(a)) < 0.04


@pytest.mark.parametrize(
    "optimizer", [adam(0.05), lambda p: torch.optim.LBFGS(p, line_search_fn="strong_wolfe")]
)
def test_map_is_the_mode_in_the_model_s_own_space(optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    x = random_variable(lambda: Gamma(torch.tensor([4.0, 1.5], dtype=DOUBLE), 2.0))
    p = random_variable(lambda: Beta(torch.tensor(3.0, dtype=DOUBLE), 2.0))
    w = random_variable(lambda: Dirichlet(torch.tensor([2.0, 3.0, 5.0], dtype=DOUBLE)))
    world = MAP([x(), p(), w()], {}, optimizer=optimizer).infer(200)
    point = {node: world.get_guide_distribution(node).v for node in (x(), p(), w())}
    assert isinstance(world.get_guide_distribution(x()), Delta) and not point[x()].requires_grad
    assert torch.allclose(point[x()], torch.tensor([1.5, 0.25], dtype=DOUBLE), atol=1e-3)
    assert torch.allclose(point[p()], torch.tensor(2 / 3, dtype=DOUBLE), atol=1e-3)
    assert torch.allclose(point[w()], torch.tensor([1.0, 2.0, 4.0], dtype=DOUBLE) / 7, atol=1e-3)
    assert torch.equal(world[x()], point[x()])


def test_full_rank_finds_a_correlated_posterior_exactly_and_mean_field_its_best() -> None:
    # x = a + b + noise of sd 1 / 2: precision [[5, 4], [4, 5]], mean (4, 4) x / 9.
    a, b = (random_variable(lambda: Normal(torch.tensor(0.0, dtype=DOUBLE), 1.0)) for _ in range(2))
    x = random_variable(lambda: Normal(a() + b(), 0.5))
    data = {x(): torch.tensor(1.8, dtype=DOUBLE)}
    world = FullRankADVI([a(), b()], data, optimizer=adam(0.1)).infer(250, mc_approx=stl)
    joint = world.get_variable(next(iter(world.queries_to_guides.guides))).distribution
    precision = torch.tensor([[5.0, 4.0], [4.0, 5.0]], dtype=DOUBLE)
    assert torch.allclose(joint.covariance_matrix, torch.linalg.inv(precision), atol=0.01)
    assert torch.allclose(joint.mean, torch.full((2,), 0.8, dtype=DOUBLE), atol=0.01)
    assert abs(world.get_guide_distribution(b()).stddev - math.sqrt(5 / 9)) < 0.01
    path: list[torch.Tensor] = []
    vi = ADVI([a(), b()], data, optimizer=adam(0.05))
    vi.infer(
        300,
        2,
        step_callback=lambda *_: path.append(vi.initialize_world().get_guide_distribution(a()).stddev),
    )
    assert abs(torch.stack(path[-150:]).mean() - 1 / math.sqrt(5)) < 0.05


class Bounded:
    """The bounds of one latent are another: Uniform(0, theta)."""

    @random_variable
    def theta(self) -> Distribution:
        """The upper bound."""
        return Gamma(torch.tensor(2.0, dtype=DOUBLE), 1.0)

    @random_variable
    def inside(self) -> Distribution:
        """Below theta."""
        return Uniform(torch.zeros((), dtype=DOUBLE), self.theta())


@pytest.mark.parametrize("engine", [ADVI, FullRankADVI, MAP])
def test_a_guide_s_support_follows_the_model_at_every_draw(engine: type) -> None:
    model = Bounded()
    vi = engine([model.inside()], {})
    vi.infer(5)
    for key, value in vi.params.items():
        if str(key).endswith(".loc"):
            value.data.reshape(-1)[0] = (
                -3.0 if "inside" not in str(key) else 0.0
            )  # theta, far below its median
    for _ in range(30):
        world = vi.initialize_world()
        assert 0 < world[model.inside()] < world[model.theta()]
        assert world.get_guide_distribution(model.inside()).support is not None
    assert vi.step(5).isfinite()


def test_the_dependent_support_s_density_is_right() -> None:
    # E_q[p / q] = 1 for the normalised joint prior, only if q's density moves with theta.
    model = Bounded()
    vi = ADVI([model.inside()], {})
    raw_scales = [value.data for key, value in vi.params.items() if str(key).endswith("raw_scale")]
    for raw_scale, scale in zip(raw_scales, (1.1, 2.0), strict=True):
        raw_scale.fill_(math.log(math.expm1(scale)))
    with torch.no_grad():
        ratio = torch.stack(
            [
                monte_carlo_approximate_reparam({}, 1, torch.exp, vi.params, vi.queries_to_guides)
                for _ in range(500)
            ]
        )
    error = ratio.std() / len(ratio) ** 0.5
    assert error < 0.03 and abs(ratio.mean() - 1) < 4 * error


@pytest.mark.parametrize("engine", [ADVI, MAP, FullRankADVI])
def test_every_latent_that_is_reached_gets_a_guide(engine: type) -> None:
    scale = named("scale", lambda: LogNormal(0.0, 1.0))
    mu = named("mu", lambda: Normal(0.0, scale()))
    noise = named("noise", lambda: Exponential(1.0))
    y = named("y", lambda: Normal(mu(), noise()))
    square = functional(lambda: mu() ** 2)
    vi = engine([square()], {y(): torch.tensor(1.0)})
    assert set(map(str, vi.queries_to_guides.queries)) == {"scale", "mu", "noise"}
    world = vi.infer(3)
    assert world.call(square()) == world[mu()] ** 2


@pytest.mark.parametrize("engine", [ADVI, MAP, FullRankADVI])
def test_a_discrete_latent_is_refused_by_name(engine: type) -> None:
    coin = named("coin", lambda: Bernoulli(0.5))
    with pytest.raises(
        ModelError, match=r"coin is discrete \(Bernoulli\) .* monte_carlo_approximate_mixed"
    ) as error:
        engine([coin()], {})
    assert error.value.key == "guide"


class _Rational(constraints.Constraint):
    """A set that torch knows no bijection to."""

    def check(self, value: torch.Tensor) -> torch.Tensor:
        return value == value


class Odd(Normal):
    """A distribution over it."""

    support = _Rational()


def test_a_support_without_a_bijection_is_refused_by_name() -> None:
    odd = named("odd", lambda: Odd(0.0, 1.0))
    with pytest.raises(ModelError, match="odd has the support Rational.*no bijection"):
        ADVI([odd()], {})


def test_a_model_without_latents_is_refused() -> None:
    y = random_variable(lambda: Normal(0.0, 1.0))
    with pytest.raises(ModelError, match="no latent"):
        ADVI([], {y(): torch.tensor(0.0)})
    with pytest.raises(ModelError, match="no latent"):
        MAP([y()], {y(): torch.tensor(0.0)})


def test_a_latent_met_only_on_another_branch_is_named_or_listed() -> None:
    switch = named("switch", lambda: Normal(0.5, 1.0))
    rare = named("rare", lambda: Normal(0.0, 1.0))
    x = named("x", lambda: Normal(switch() if switch() > 0 else rare(), 1.0))
    data = {x(): torch.tensor(0.0)}
    vi = ADVI([switch(), rare()], data)
    vi.infer(30)
    assert rare() in vi.queries_to_guides.queries

    def step_on() -> None:
        ADVI([switch()], data, optimizer=adam(0.5)).infer(200)

    with pytest.raises(
        ModelError, match="rare is neither observed nor guided; give it a guide .* AutoGuideVI"
    ):
        step_on()


def test_users_define_guides_of_their_own() -> None:
    class Student(AutoGuideVI):
        """Heavy tails."""

        @staticmethod
        def get_guide(query: RVIdentifier, distrib: Distribution) -> RVIdentifier:
            loc = bm.param(lambda: torch.zeros(distrib.batch_shape))
            return random_variable(lambda: torch.distributions.StudentT(5.0, loc(), 0.3))()

    mu = random_variable(lambda: Normal(torch.zeros(2), 1.0))
    vi = Student([mu()], {}, optimizer=adam(0.05))
    assert vi.infer(5)[mu()].shape == (2,)
    with pytest.raises(TypeError, match="abstract"):
        AutoGuideVI([mu()], {})  # type: ignore[abstract]


def test_a_bean_machine_program_with_only_its_import_changed() -> None:
    bm.seed(11)

    class RobustRegression:
        def __init__(self, n: int, d: int) -> None:
            self.n, self.d = n, d
            self.X_train = torch.randn(n, d)
            self.beta_truth = torch.randn(d + 1, 1)
            noise = torch.distributions.StudentT(df=4.0).sample((n, 1))
            self.y_train = torch.cat((self.X_train, torch.ones(n, 1)), -1).mm(self.beta_truth) + 0.3 * noise

        @bm.random_variable
        def beta(self):  # type: ignore[no-untyped-def]
            return Independent(torch.distributions.StudentT(df=4.0 * torch.ones(self.d + 1)), 1)

        @bm.random_variable
        def X(self):  # type: ignore[no-untyped-def]
            return Normal(0, 1)

        @bm.random_variable
        def y(self):  # type: ignore[no-untyped-def]
            design = torch.cat((self.X(), torch.ones(self.X().shape[0], 1)), -1)
            mean = design.mm(self.beta().unsqueeze(-1))
            return Independent(torch.distributions.StudentT(df=4.0, loc=mean, scale=0.3), 1)

        @bm.functional
        def intercept(self):  # type: ignore[no-untyped-def]
            return self.beta()[-1]

    model = RobustRegression(n=100, d=3)
    observations = {model.X(): model.X_train, model.y(): model.y_train}
    for engine in (bm.ADVI, bm.MAP):
        auto_guide = engine(
            queries=[model.beta(), model.intercept()],
            observations=observations,
            optimizer=lambda params: torch.optim.Adam(params, lr=1e-1),
        )
        world = auto_guide.infer(num_steps=100)
        samples = world.get_guide_distribution(model.beta()).sample((100,))
        assert torch.allclose(samples.mean(0), model.beta_truth[:, 0], atol=0.25)
        assert world.call(model.intercept()) == world[model.beta()][-1]

    @bm.param
    def phi():  # type: ignore[no-untyped-def]
        return torch.zeros(2)

    @bm.random_variable
    def mu():  # type: ignore[no-untyped-def]
        return Normal(torch.zeros(1), 10 * torch.ones(1))

    @bm.random_variable
    def x(i):  # type: ignore[no-untyped-def]
        return Normal(mu(), torch.ones(1))

    @bm.random_variable
    def q_mu():  # type: ignore[no-untyped-def]
        params = phi()
        return Normal(params[0], params[1].exp())

    losses = []
    world = bm.VariationalInfer(
        queries_to_guides={mu(): q_mu()},
        observations={x(1): torch.tensor(9.0), x(2): torch.tensor(10.0)},
        optimizer=lambda params: torch.optim.Adam(params, lr=1e0),
    ).infer(
        num_steps=100,
        num_samples=2,
        discrepancy_fn=bm.kl_reverse,
        mc_approx=bm.monte_carlo_approximate_reparam,
        step_callback=lambda step, loss, vi: losses.append(loss.item()),
    )
    assert isinstance(world, VariationalWorld) and len(losses) == 100
    assert world.get_variable(q_mu()).distribution.sample((100, 1)).mean() > 5.0
    assert (world.get_param(phi())[0] - 9.45).abs() < 1.5
