from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    AffineTransform,
    Distribution,
    Exponential,
    ExpTransform,
    Gamma,
    HalfNormal,
    Independent,
    Normal,
    Poisson,
    TransformedDistribution,
    Uniform,
    biject_to,
    constraints,
    transform_to,
)
from torch.distributions.constraints import Constraint

from vi_dist.model.decorators import random_variable
from vi_dist.model.ordered import Ordered, ordered, positive_ordered
from vi_dist.model.prior_median import prior_median
from vi_dist.model.world import World

F64 = torch.float64
BOTH = pytest.mark.parametrize("constraint", [ordered, positive_ordered], ids=["ordered", "positive_ordered"])


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def normals(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(0))


@BOTH
@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_bijection_goes_there_and_back(constraint: Constraint, size: int) -> None:
    transform = biject_to(constraint)
    assert transform == transform_to(constraint)
    x = normals(3, 2, size)
    y = transform(x)
    assert bool(constraint.check(y).all())
    assert y.shape == x.shape
    torch.testing.assert_close(transform.inv(y), x)
    assert transform.codomain is constraint


@BOTH
def test_its_log_determinant_is_autograd_s(constraint: Constraint) -> None:
    transform = biject_to(constraint)
    x = normals(4)
    jacobian = torch.autograd.functional.jacobian(transform, x)
    expected = torch.linalg.slogdet(jacobian)[1]
    torch.testing.assert_close(transform.log_abs_det_jacobian(x, transform(x)), expected)
    batch = normals(3, 2, 4)
    assert transform.log_abs_det_jacobian(batch, transform(batch)).shape == (3, 2)


def test_what_is_ordered() -> None:
    values = torch.stack([tensor(-1, 0, 2), tensor(0, 0, 1), tensor(1, 2, 1.5), tensor(0.1, 0.2, 0.3)])
    assert ordered.check(values).tolist() == [True, False, False, True]
    assert positive_ordered.check(values).tolist() == [False, False, False, True]
    assert not bool(ordered.check(tensor(math.nan, 1.0)))


@pytest.mark.parametrize(
    "base", [Normal(tensor(0.5)[0], 2.0), Exponential(tensor(1.5)[0]), Gamma(tensor(2.0)[0], 3.0)]
)
def test_the_density_integrates_to_one(base: Distribution) -> None:
    """Over the increasing pairs of a grid; it is n! times the product, since every order of the draws counts."""
    pair = Ordered(base, 2)
    grid = torch.linspace(-12, 14, 2601, dtype=F64) + 1e-9
    if pair.support is positive_ordered:
        grid = torch.linspace(0, 14, 2801, dtype=F64) + 1e-9
    one, other = torch.meshgrid(grid, grid, indexing="ij")
    inside = one < other
    mass = pair.log_prob(torch.stack((one, other), -1)[inside]).exp().sum() * (grid[1] - grid[0]) ** 2
    assert float(mass) == pytest.approx(1.0, abs=0.01)


def test_draws_are_sorted_and_distributed_as_order_statistics() -> None:
    """The k-th of n uniforms would be Beta(k, n - k + 1): so are the ranks of the k-th of n draws."""
    torch.manual_seed(0)
    base = Normal(tensor(1.0)[0], 3.0)
    drawn = Ordered(base, 3).sample((40_000,))
    assert bool(ordered.check(drawn).all())
    ranks = base.cdf(drawn)
    for k in (1, 2, 3):
        error = math.sqrt(k * (4 - k) / (16 * 5) / 40_000)
        assert abs(float(ranks[:, k - 1].mean()) - k / 4) < 4.5 * error


def test_shapes_and_what_lies_outside() -> None:
    batch = Ordered(Normal(torch.zeros(2, dtype=F64), 1.0), 3)
    assert batch.batch_shape == (2,)
    assert batch.event_shape == (3,)
    assert batch.sample((4,)).shape == (4, 2, 3)
    assert batch.expand((5, 2)).batch_shape == (5, 2)
    value = torch.stack([tensor(-1, 0, 2), tensor(0, -1, 2)])
    with pytest.raises(ValueError, match="within the support"):
        batch.log_prob(value)
    found = Ordered(Normal(torch.zeros(2, dtype=F64), 1.0), 3, validate_args=False).log_prob(value)
    expected = Normal(0.0, 1.0).log_prob(value[0]).sum() + math.log(6)
    torch.testing.assert_close(found, torch.stack((expected, tensor(-math.inf)[0])))


def test_the_support_follows_the_base() -> None:
    assert Ordered(Normal(0.0, 1.0), 2).support is ordered
    assert Ordered(HalfNormal(1.0), 2).support is positive_ordered
    assert constraints.is_dependent(Ordered.support)
    assert (
        Ordered(TransformedDistribution(Normal(0.0, 1.0), [AffineTransform(1.0, 2.0)]), 2).support is ordered
    )
    assert Ordered(TransformedDistribution(Normal(0.0, 1.0), [ExpTransform()]), 2).support is positive_ordered


@pytest.mark.parametrize(
    "base",
    [
        Uniform(0.0, 1.0),
        Poisson(3.0),
        Independent(Normal(torch.zeros(2), 1.0), 1),
        TransformedDistribution(HalfNormal(1.0), [AffineTransform(1.0, 1.0)]),
    ],
)
def test_a_base_without_a_bijection_is_refused(base: Distribution) -> None:
    with pytest.raises(ValueError, match="single real or positive numbers"):
        Ordered(base, 2)


def test_an_empty_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Ordered(Normal(0.0, 1.0), 0)


def test_a_model_starts_at_its_prior_s_median() -> None:
    @random_variable
    def cuts() -> Distribution:
        return Ordered(Normal(torch.zeros((), dtype=F64), 2.0), 3)

    world = World({}, prior_median)
    value = world.call(cuts())
    assert bool(ordered.check(value))
    assert bool(value.abs().max() < 3)
    assert bool(torch.isfinite(world.log_prob([cuts()])))
