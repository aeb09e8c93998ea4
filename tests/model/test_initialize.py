"""First values of latents, and the Delta distribution."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Cauchy,
    Dirichlet,
    Distribution,
    Exponential,
    Gamma,
    HalfCauchy,
    Independent,
    LKJCholesky,
    LogNormal,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    Poisson,
    StudentT,
    Uniform,
    biject_to,
)

from vi_dist.model.delta import Delta
from vi_dist.model.initialize import init_from_prior, init_to_uniform
from vi_dist.model.prior_median import prior_median
from vi_dist.model.seeding import fixed_seed, seed

DISTRIBUTIONS = [
    Normal(torch.zeros(3), 2.0),
    Gamma(torch.full((2,), 3.0), 1.0),
    Beta(2.0, 5.0),
    Uniform(-1.0, torch.full((4,), 3.0)),
    HalfCauchy(2.0),
    StudentT(4.0, 1.0),
    Cauchy(1.0, 2.0),
    Dirichlet(torch.ones(4)),
    MultivariateNormal(torch.zeros(2), torch.eye(2)),
    LKJCholesky(3, 1.0),
    Independent(LogNormal(torch.zeros(3, dtype=torch.float64), 1.0), 1),
    Bernoulli(torch.full((3,), 0.5)),
    Categorical(torch.ones(2, 5)),
    OneHotCategorical(torch.ones(2, 5)),
    Poisson(torch.full((2,), 4.0)),
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("first", [init_from_prior, init_to_uniform, prior_median])
def test_first_values_have_the_right_shape_dtype_and_support(first, distribution: Distribution) -> None:
    value, drawn = first(distribution), distribution.sample()
    assert value.shape == drawn.shape and value.dtype == drawn.dtype
    assert bool(distribution.support.check(value).all())


def test_init_to_uniform_stays_within_two_of_the_origin() -> None:
    seed(0)
    distribution = Gamma(torch.full((500,), 1e-3), 1.0)
    coordinates = biject_to(distribution.support).inv(init_to_uniform(distribution))
    assert coordinates.abs().max() <= 2 and coordinates.max() > 1.5 and coordinates.min() < -1.5


@pytest.mark.parametrize(
    ("distribution", "median"),
    [
        (Normal(3.0, 2.0), 3.0),
        (Exponential(torch.tensor(2.0)), 0.34657),
        (HalfCauchy(2.0), 2.0),
        (Uniform(-1.0, 3.0), 1.0),
        (Independent(LogNormal(torch.ones(2), 1.0), 1), 2.71828),
    ],
)
def test_prior_median_is_the_quantile_where_there_is_one(distribution: Distribution, median: float) -> None:
    assert torch.allclose(prior_median(distribution), torch.tensor(median), atol=1e-5)


def test_prior_median_of_draws_is_close() -> None:
    # Gamma(2, 1) has its median at 1.6783; 255 draws leave a standard error of about 0.09.
    assert abs(prior_median(Gamma(2.0, 1.0)) - 1.6783) < 0.4


def test_prior_median_starts_inside_when_draws_underflow() -> None:
    value = prior_median(Gamma(torch.tensor(1e-4), 1.0))
    assert value > 0 and value.isfinite()


def test_prior_median_repeats_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    first = prior_median(Gamma(2.0, torch.ones(3)))
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(prior_median(Gamma(2.0, torch.ones(3))), first)


def test_seed_reaches_every_generator() -> None:
    import random

    import numpy

    draws = []
    for _ in range(2):
        seed(5)
        draws.append((torch.rand(()).item(), random.random(), numpy.random.rand()))
    assert draws[0] == draws[1]
    with fixed_seed():
        torch.rand(3)
    follow = torch.rand(())
    seed(5)
    torch.rand(())
    assert torch.rand(()) == follow


def test_delta() -> None:
    point = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    delta = Delta(point, event_dim=1)
    assert delta.batch_shape == (2,) and delta.event_shape == (2,)
    assert delta.v is point and delta.mean is point and delta.mode is point
    assert delta.rsample((5,)).shape == (5, 2, 2) and delta.rsample().requires_grad
    assert not delta.sample().requires_grad
    assert delta.log_prob(point).tolist() == [0.0, 0.0]
    assert delta.log_prob(point + torch.tensor([[0.0, 1.0], [0.0, 0.0]])).tolist() == [-torch.inf, 0.0]
    assert Delta(point, log_density=1.5).log_prob(point).tolist() == [[1.5, 1.5], [1.5, 1.5]]
    assert delta.expand((3, 2)).log_prob(point).shape == (3, 2)
    assert not delta.variance.any()
    with pytest.raises(ValueError, match="event_dim is 3, but the point has 2"):
        Delta(point, event_dim=3)
