"""Supports and the bijections onto them: of torch's distributions, of transformed ones, of angles, of wrappers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    AffineTransform,
    Beta,
    ContinuousBernoulli,
    Dirichlet,
    Distribution,
    Exponential,
    ExpTransform,
    Gamma,
    Gumbel,
    HalfCauchy,
    HalfNormal,
    Independent,
    InverseGamma,
    Kumaraswamy,
    LKJCholesky,
    LogisticNormal,
    LogNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    Pareto,
    Poisson,
    PowerTransform,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
    SigmoidTransform,
    StickBreakingTransform,
    StudentT,
    TanhTransform,
    TransformedDistribution,
    Uniform,
    VonMises,
    Weibull,
    biject_to,
)
from torch.distributions.transforms import (
    CatTransform,
    ComposeTransform,
    ReshapeTransform,
    StackTransform,
    identity_transform,
)

from vi_dist.model.coordinates import at_coordinates
from vi_dist.model.prior_median import prior_median
from vi_dist.model.seeding import fixed_seed
from vi_dist.model.support import bijection_of, is_discrete, support_of, unconstrained_shape

F64 = torch.float64


def t(*numbers: float) -> Tensor:
    return torch.tensor(numbers if len(numbers) > 1 else numbers[0], dtype=F64)


def through(base: Distribution, *transforms: Any) -> Distribution:
    return TransformedDistribution(base, list(transforms))


# Scalar distributions with the bounds of their values.
SCALARS: dict[str, tuple[Callable[[], Distribution], float, float]] = {
    "half_normal_moved": (lambda: through(HalfNormal(t(1.0)), AffineTransform(1.0, 1.0)), 1.0, math.inf),
    "gamma_turned": (lambda: through(Gamma(t(2.0), t(1.0)), AffineTransform(3.0, -0.5)), -math.inf, 3.0),
    "beta_on_minus_one_to_one": (
        lambda: through(Beta(t(2.0), t(3.0)), AffineTransform(-1.0, 2.0)),
        -1.0,
        1.0,
    ),
    "uniform_moved": (lambda: through(Uniform(t(0.0), t(1.0)), AffineTransform(2.0, 3.0)), 2.0, 5.0),
    "uniform_turned": (lambda: through(Uniform(t(0.0), t(1.0)), AffineTransform(2.0, -3.0)), -1.0, 2.0),
    "power_of_a_beta": (lambda: through(Beta(t(2.0), t(3.0)), PowerTransform(t(3.0))), 0.0, 1.0),
    "one_over_weibull": (lambda: through(Weibull(t(2.0), t(1.0)), PowerTransform(t(-1.0))), 0.0, math.inf),
    "exp_of_a_uniform": (lambda: through(Uniform(t(0.0), t(1.0)), ExpTransform()), 1.0, math.e),
    "sigmoid_of_an_exponential": (lambda: through(Exponential(t(1.0)), SigmoidTransform()), 0.5, 1.0),
    "chain": (
        lambda: through(HalfNormal(t(1.0)), ExpTransform(), AffineTransform(0.0, -2.0)),
        -math.inf,
        -2.0,
    ),
    "nested": (
        lambda: through(through(Beta(t(2.0), t(2.0)), AffineTransform(1.0, 2.0)), ExpTransform()),
        math.e,
        math.exp(3.0),
    ),
    "log_normal_moved": (
        lambda: through(LogNormal(t(0.0), t(0.5)), AffineTransform(1.0, 1.0)),
        1.0,
        math.inf,
    ),
    "tanh_of_a_half_normal": (lambda: through(HalfNormal(t(1.0)), TanhTransform()), 0.0, 1.0),
    "logit_of_a_uniform": (
        lambda: through(Uniform(t(0.0), t(1.0)), SigmoidTransform().inv, AffineTransform(0.3, 2.0)),
        -math.inf,
        math.inf,
    ),
    "expanded": (lambda: through(HalfNormal(t(1.0)), AffineTransform(1.0, 1.0)).expand([]), 1.0, math.inf),
    "von_mises": (lambda: VonMises(t(2.0), t(3.0)), 2.0 - math.pi, 2.0 + math.pi),
    "von_mises_moved": (
        lambda: through(VonMises(t(0.0), t(3.0)), AffineTransform(1.0, 0.5)),
        1.0 - math.pi / 2,
        1.0 + math.pi / 2,
    ),
    "mixture_of_von_mises": (
        lambda: MixtureSameFamily(
            torch.distributions.Categorical(t(0.5, 0.5)), VonMises(t(1.0, 2.0), t(3.0, 2.0))
        ),
        1.0 - math.pi,
        1.0 + math.pi,
    ),
    "gumbel": (lambda: Gumbel(t(0.0), t(1.0)), -math.inf, math.inf),
    "weibull": (lambda: Weibull(t(1.0), t(2.0)), 0.0, math.inf),
    "pareto": (lambda: Pareto(t(2.0), t(3.0)), 2.0, math.inf),
    "kumaraswamy": (lambda: Kumaraswamy(t(2.0), t(3.0)), 0.0, 1.0),
    "inverse_gamma": (lambda: InverseGamma(t(3.0), t(2.0)), 0.0, math.inf),
    "relaxed_bernoulli": (lambda: RelaxedBernoulli(t(0.7), t(0.4)), 0.0, 1.0),
    "half_cauchy": (lambda: HalfCauchy(t(1.0)), 0.0, math.inf),
    "log_normal": (lambda: LogNormal(t(0.0), t(1.0)), 0.0, math.inf),
    "continuous_bernoulli": (lambda: ContinuousBernoulli(t(0.3)), 0.0, 1.0),
    "student": (lambda: StudentT(t(3.0)), -math.inf, math.inf),
}


@pytest.mark.parametrize("name", SCALARS)
def test_coordinates_cover_the_values_and_the_density_integrates_to_one(name: str) -> None:
    make, low, high = SCALARS[name]
    distribution = make()
    u = torch.linspace(-60.0, 60.0, 240_001, dtype=F64)
    transform = bijection_of(distribution)
    point = at_coordinates(distribution, u)
    value, total = point.value, point.log_density.exp()
    mass = torch.trapezoid(torch.nan_to_num(total, 0.0, 0.0, 0.0), u)
    assert abs(float(mass) - 1.0) < (0.02 if name == "student" else 1e-3)
    assert bool((value >= low).all()) and bool((value <= high).all())
    near = transform(t(-1.0, 0.0, 1.0))
    torch.testing.assert_close(bijection_of(distribution).inv(near), t(-1.0, 0.0, 1.0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SCALARS)
def test_draws_are_inside_and_what_lies_beyond_the_bounds_is_not(name: str) -> None:
    make, low, high = SCALARS[name]
    distribution, support = make(), support_of(make())
    assert support is not None
    with fixed_seed():
        draws = distribution.sample(torch.Size((200,)))
    assert bool(support.check(draws).all())
    if "von_mises" in name:  # any number stands for an angle
        return
    for bound, outwards in ((low, -1.0), (high, 1.0)):
        if math.isfinite(bound):
            assert not bool(support.check(t(bound + 0.1 * outwards)))


VECTORS: dict[str, Callable[[], Distribution]] = {
    "stick_breaking": lambda: through(Normal(torch.zeros(3, dtype=F64), 1.0), StickBreakingTransform()),
    "dirichlet_turned": lambda: through(
        Dirichlet(t(2.0, 3.0, 4.0)), StickBreakingTransform().inv, AffineTransform(1.0, -2.0)
    ),
    "reshaped": lambda: through(
        Independent(Gamma(torch.full((6,), 2.0, dtype=F64), 1.0), 1),
        AffineTransform(1.0, 2.0),
        ReshapeTransform((6,), (2, 3)),
    ),
    "cat": lambda: through(
        Independent(HalfNormal(torch.ones(4, dtype=F64)), 1),
        CatTransform([ExpTransform(), identity_transform], -1, [2, 2]),
    ),
    "stack": lambda: through(
        Independent(HalfNormal(torch.ones(2, dtype=F64)), 1),
        StackTransform([AffineTransform(1.0, 1.0), AffineTransform(0.0, -1.0)], -1),
    ),
    "independent": lambda: Independent(
        through(HalfNormal(torch.ones(2, 3, dtype=F64)), AffineTransform(1.0, 1.0)), 2
    ),
    "exp_of_a_multivariate_normal": lambda: through(
        MultivariateNormal(torch.zeros(3, dtype=F64), torch.eye(3, dtype=F64)), ExpTransform()
    ),
    "composed": lambda: through(
        Exponential(torch.ones(3, dtype=F64)),
        ComposeTransform([AffineTransform(1.0, 2.0), ExpTransform()]),
    ),
    "logistic_normal": lambda: LogisticNormal(torch.zeros(3, dtype=F64), 1.0),
    "relaxed_one_hot": lambda: RelaxedOneHotCategorical(t(0.7), t(0.2, 0.3, 0.5)),
    "lkj": lambda: LKJCholesky(3, t(2.0)),
    "half_normal_grid": lambda: through(HalfNormal(torch.ones(2, 3, dtype=F64)), AffineTransform(1.0, 1.0)),
}


@pytest.mark.parametrize("name", VECTORS)
def test_values_of_coordinates_are_inside_and_have_the_density_that_torch_gives(name: str) -> None:
    distribution = VECTORS[name]()
    transform, support = bijection_of(distribution), support_of(distribution)
    shape = unconstrained_shape(distribution, transform)
    with fixed_seed():
        u = torch.randn(shape, dtype=F64)
    point = at_coordinates(distribution, u)
    value, log_prob = point.value, point.log_prob
    assert support is not None and bool(support.check(value).all())
    assert value.shape == distribution.batch_shape + distribution.event_shape
    torch.testing.assert_close(transform.inv(value), u, rtol=1e-6, atol=1e-6)
    if name == "stack":  # torch adds the base's density to each element of the stack's logs
        return
    torch.testing.assert_close(log_prob, distribution.log_prob(value), rtol=1e-8, atol=1e-8)
    determinant = transform.log_abs_det_jacobian(u, value).sum()
    torch.testing.assert_close(point.log_density.sum(), log_prob.sum() + determinant, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("name", "size"), [("cat", 4), ("stack", 2)])
def test_the_determinant_is_that_of_the_whole_map(name: str, size: int) -> None:
    distribution = VECTORS[name]()
    u = t(0.3, -0.4, 0.1, 1.2)[:size]
    jacobian = torch.autograd.functional.jacobian(bijection_of(distribution), u)
    expected = torch.linalg.slogdet(jacobian).logabsdet
    point = at_coordinates(distribution, u)
    torch.testing.assert_close(point.log_density - point.log_prob, expected)


def test_a_density_keeps_the_digits_that_inverting_its_transforms_would_lose() -> None:
    base = Gamma(torch.tensor(0.5), torch.tensor(1.0))
    moved = TransformedDistribution(base, [AffineTransform(100.0, 1.0)])
    u = torch.tensor(-20.0)
    point = at_coordinates(moved, u)
    assert float(point.value) == 100.0 and not bool(moved.log_prob(point.value).isfinite())
    torch.testing.assert_close(point.log_prob, base.log_prob(u.exp()))


def test_the_image_of_separate_values_is_discrete() -> None:
    assert is_discrete(TransformedDistribution(Poisson(1.0), [AffineTransform(1.0, 2.0)]))
    assert not is_discrete(TransformedDistribution(Normal(0.0, 1.0), [AffineTransform(1.0, 2.0)]))


class Wrapped(Distribution):
    """A wrapper that states its base's support, as Pyro's masked and expanded distributions do."""

    def __init__(self, base: Distribution) -> None:
        self.base_dist = base
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.base_dist.support

    def log_prob(self, value: Tensor) -> Tensor:
        return 0.5 * self.base_dist.log_prob(value)


def test_a_wrapper_has_the_values_of_what_it_wraps() -> None:
    inner = TransformedDistribution(HalfNormal(1.0), [AffineTransform(1.0, 1.0)])
    wrapped = Independent(Wrapped(Wrapped(inner.expand([2]))), 1)
    point = at_coordinates(wrapped, torch.tensor([-1.0, 2.0]))
    assert bool((point.value > 1.0).all())
    torch.testing.assert_close(point.log_prob, 0.25 * inner.log_prob(point.value).sum())


def test_the_inverse_of_an_angle_takes_any_period() -> None:
    transform = bijection_of(VonMises(torch.tensor(1.0), torch.tensor(2.0)))
    turned = transform.inv(torch.tensor(1.5) + 2 * math.pi * torch.arange(-2.0, 3.0))
    torch.testing.assert_close(transform(turned), torch.full((5,), 1.5), rtol=1e-5, atol=1e-5)


class Flat(Distribution):
    """A density without sampler."""

    def __init__(self, support: Any, shape: torch.Size) -> None:
        self.stated = support
        super().__init__(shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.stated

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.zeros_like(value)


def test_the_median_of_a_density_without_sampler_is_the_origin_of_its_coordinates() -> None:
    constraints = torch.distributions.constraints
    assert prior_median(Flat(constraints.real, torch.Size((2,)))).tolist() == [0.0, 0.0]
    assert prior_median(Flat(constraints.positive, torch.Size())).tolist() == 1.0
    assert prior_median(Flat(constraints.interval(2.0, 4.0), torch.Size())).tolist() == 3.0


def test_biject_to_knows_the_supports_that_torch_lacks() -> None:
    moved = support_of(TransformedDistribution(HalfNormal(1.0), [AffineTransform(1.0, 1.0)]))
    assert moved is not None and float(biject_to(moved)(torch.tensor(0.0))) == 2.0
    assert "HalfNormal" not in repr(moved) and "AffineTransform" in repr(moved)
