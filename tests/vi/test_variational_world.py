"""Worlds whose latents take their values from guides."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import (
    Dirichlet,
    Distribution,
    Exponential,
    Gamma,
    Independent,
    LKJCholesky,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    StudentT,
    Uniform,
)

from vi_dist.errors import ModelError
from vi_dist.model.decorators import functional, param, random_variable
from vi_dist.model.delta import Delta
from vi_dist.model.world import World
from vi_dist.vi.variational_world import VariationalWorld

DOUBLE = torch.float64


@random_variable
def mu() -> Distribution:
    """A latent."""
    return Normal(0.0, 1.0)


@random_variable
def x(i: int) -> Distribution:
    """Data."""
    return Normal(mu(), 1.0)


@functional
def square() -> torch.Tensor:
    """A derived quantity."""
    return mu() ** 2


@param
def phi() -> torch.Tensor:
    """A guide's param."""
    return torch.tensor([3.0, 0.1])


@random_variable
def q_mu() -> Distribution:
    """A guide."""
    return Normal(phi()[0], phi()[1])


def test_a_guided_variable_takes_its_value_from_its_guide() -> None:
    world = VariationalWorld(queries_to_guides={mu(): q_mu()})
    value = world.call(mu())
    assert abs(value - 3.0) < 1.0
    assert world[mu()] is value and world[q_mu()] is value
    assert world.call(square()) == value**2
    assert list(world) == [q_mu()] and mu() in world
    assert world.get_variable(mu()).distribution is world.get_guide_distribution(mu())
    assert world.log_prob([q_mu()]) == world.log_prob([mu()]) == Normal(3.0, 0.1).log_prob(value)
    world.call(x(0))
    assert world.get_variable(x(0)).parents == {q_mu()}
    assert world.get_variable(q_mu()).children == {x(0)}
    assert list(world.params) == [phi()]


def test_without_guides_it_is_a_world() -> None:
    world = VariationalWorld({x(0): torch.zeros(())})
    world.call(x(0))
    assert list(world) == [mu(), x(0)]
    with pytest.raises(ModelError, match="mu has no guide; guided are: none"):
        world.get_guide_distribution(mu())


def test_params_can_be_given_set_and_shared() -> None:
    params = {phi(): torch.tensor([-1.0, 0.5])}
    world = VariationalWorld(params=params, queries_to_guides={mu(): q_mu()})
    assert world.get_guide_distribution(mu()).mean == -1.0
    assert world.get_param(phi()) is params[phi()]
    world = VariationalWorld(queries_to_guides={mu(): q_mu()})
    world.set_params(params)
    assert world.get_guide_distribution(mu()).mean == -1.0


def test_params_met_in_the_world_reach_the_mapping_given() -> None:
    params: dict = {}
    VariationalWorld(params=params, queries_to_guides={mu(): q_mu()}).call(mu())
    assert list(params) == [phi()] and params[phi()].requires_grad


def test_an_observed_variable_stays_observed() -> None:
    world = VariationalWorld({mu(): torch.tensor(9.0)}, queries_to_guides={mu(): q_mu()})
    assert world.call(mu()) == 9.0 and q_mu() not in world


def test_guides_may_depend_on_other_latents() -> None:
    alpha = random_variable(lambda: Normal(0.0, 1.0))
    beta = random_variable(lambda: Normal(0.0, 1.0))
    q_alpha = random_variable(lambda: Normal(5.0, 0.1))
    q_beta = random_variable(lambda: Normal(-alpha(), 0.1))
    world = VariationalWorld(queries_to_guides={beta(): q_beta(), alpha(): q_alpha()})
    world.call(beta())
    assert world.get_guide_distribution(beta()).mean == -world[alpha()]
    assert world.get_variable(beta()).parents == {q_alpha()}
    moved = world.replace({alpha(): torch.tensor(2.0)})
    assert moved.get_guide_distribution(beta()).mean == -2.0 and moved[beta()] == world[beta()]


def test_guides_in_a_circle_are_named() -> None:
    a, b = (random_variable(lambda: Normal(0.0, 1.0)) for _ in range(2))

    @random_variable
    def q_a() -> Distribution:
        return Normal(b(), 1.0)

    @random_variable
    def q_b() -> Distribution:
        return Normal(a(), 1.0)

    with pytest.raises(ModelError, match=r"q_a depends on itself \(q_a -> q_b -> q_a\)"):
        VariationalWorld(queries_to_guides={a(): q_a(), b(): q_b()}).call(a())


def test_a_guide_world_is_never_drawn_again() -> None:
    # Half of the draws make the observation impossible. Rejecting those would sample from a truncated guide.
    sign = random_variable(lambda: Normal(0.0, 1.0))
    seen = random_variable(lambda: Uniform(0.0, torch.where(sign() > 0, 1.0, 0.1)))
    q_sign = random_variable(lambda: Normal(0.0, 1.0))
    torch.manual_seed(0)
    draws = [
        VariationalWorld.initialize_world(
            [sign()], {seen(): torch.tensor(0.5)}, queries_to_guides={sign(): q_sign()}
        )[sign()]
        for _ in range(200)
    ]
    below = sum(bool(draw < 0) for draw in draws)
    assert abs(below - 100) < 4 * math.sqrt(50)
    assert all(
        World.initialize_world([sign()], {seen(): torch.tensor(0.5)})[sign()] > 0 for _ in range(20)
    ), "a plain world does look for a possible start"


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({square(): q_mu()}, "square is not a random variable, so it cannot be guided"),
        ({mu(): phi()}, "phi is not a random variable, so it cannot be a guide"),
        ({mu(): q_mu(), x(0): q_mu()}, "the guide q_mu is given to two queries"),
        ({mu(): q_mu(), (mu(), x(0)): x(1)}, r"mu has two guides, q_mu and x\(1\)"),
    ],
)
def test_pairs_that_make_no_sense(mapping: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        VariationalWorld(queries_to_guides=mapping)


class Joint:
    """Latents of several supports, one bounded by another, under one guide."""

    @random_variable
    def width(self) -> Distribution:
        """Positive."""
        return Exponential(torch.tensor(1.0, dtype=DOUBLE))

    @random_variable
    def place(self) -> Distribution:
        """Between zero and the width: listed first, so its bounds come from a later part."""
        return Uniform(torch.zeros((), dtype=DOUBLE), self.width())

    @random_variable
    def weights(self) -> Distribution:
        """A simplex."""
        return Dirichlet(torch.full((3,), 2.0, dtype=DOUBLE))

    @random_variable
    def correlation(self) -> Distribution:
        """A correlation matrix."""
        return LKJCholesky(3, torch.tensor(2.0, dtype=DOUBLE))

    @random_variable
    def slopes(self) -> Distribution:
        """A plain matrix."""
        return Normal(torch.zeros(2, 2, dtype=DOUBLE), 1.0)

    @property
    def queries(self) -> tuple:
        """All of them; 1 + 1 + 2 + 3 + 4 coordinates."""
        return (self.place(), self.width(), self.weights(), self.correlation(), self.slopes())


def joint_world(guide: Distribution) -> tuple[Joint, VariationalWorld]:
    """A world of the joint model under this guide, everything instantiated."""
    model, q = Joint(), random_variable(lambda: guide)
    world = VariationalWorld(queries_to_guides={model.queries: q()})
    for query in model.queries:
        world.call(query)
    return model, world


def joint_gaussian(scale: float = 0.5) -> MultivariateNormal:
    """A correlated Gaussian over the eleven coordinates."""
    torch.manual_seed(1)
    tril = torch.tril(0.1 * torch.randn(11, 11, dtype=DOUBLE), -1) + scale * torch.eye(11, dtype=DOUBLE)
    return MultivariateNormal(torch.linspace(-1.0, 1.0, 11, dtype=DOUBLE), scale_tril=tril)


def test_a_joint_guide_gives_every_part_its_support() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        model, world = joint_world(joint_gaussian(3.0))
        for query in model.queries:
            distribution = world.get_distribution(query)
            assert bool(distribution.support.check(world[query]).all()), str(query)
            assert world[query].shape == distribution.batch_shape + distribution.event_shape
        assert world[model.place()] < world[model.width()]


def test_a_joint_guide_s_density_is_that_of_its_values() -> None:
    model, world = joint_world(joint_gaussian())
    coordinates = next(variable for node, variable in world._variables.items() if node not in model.queries)
    z = coordinates.value
    parts = {
        model.place(): z[0].sigmoid().log() + (-z[0]).sigmoid().log() + world[model.width()].log(),
        model.width(): z[1],
    }
    for query, log_jacobian in parts.items():
        assert torch.allclose(world.get_variable(query).log_prob, -log_jacobian)
    assert torch.allclose(world[model.width()], z[1].exp())
    total = coordinates.log_prob + sum(world.get_variable(query).log_prob for query in model.queries)
    assert torch.allclose(world.log_prob(), total)


def test_the_density_of_a_joint_guide_integrates_to_one() -> None:
    # E_q[p(x)/q(x)] is 1 for a normalised p only if every Jacobian is counted, and counted once.
    model = Joint()
    queries = (model.place(), model.width())
    q = random_variable(lambda: Independent(Normal(torch.zeros(2, dtype=DOUBLE), 1.5), 1))
    weights = torch.empty(600, dtype=DOUBLE)
    for i in range(len(weights)):
        world = VariationalWorld(queries_to_guides={queries: q()})
        prior = World({query: world.call(query) for query in queries})
        for query in queries:
            prior.call(query)
        weights[i] = (prior.log_prob() - world.log_prob()).exp()
    error = weights.std() / len(weights) ** 0.5
    assert error < 0.1
    assert abs(weights.mean() - 1) < 4 * error


@pytest.mark.parametrize(
    "guide",
    [
        joint_gaussian(),
        Independent(Normal(torch.linspace(-1, 1, 11, dtype=DOUBLE), 0.5), 1),
        LowRankMultivariateNormal(
            torch.linspace(-1, 1, 11, dtype=DOUBLE),
            torch.full((11, 1), 0.3, dtype=DOUBLE),
            torch.full((11,), 0.2, dtype=DOUBLE),
        ),
    ],
    ids=lambda guide: type(guide).__name__,
)
def test_marginals_of_a_joint_guide(guide: Distribution) -> None:
    model, world = joint_world(guide)
    width = world.get_guide_distribution(model.width())
    sd = float(guide.stddev[1])
    value = torch.tensor(0.7, dtype=DOUBLE)
    expected = Normal(guide.mean[1], sd).log_prob(value.log()) - value.log()
    assert torch.allclose(width.log_prob(value), expected)
    slopes = world.get_guide_distribution(model.slopes())
    assert slopes.sample((5,)).shape == (5, 2, 2)
    assert torch.allclose(
        slopes.log_prob(guide.mean[-4:].reshape(2, 2)).exp() * 0 + 1, torch.ones((), dtype=DOUBLE)
    )
    assert (
        world.get_guide_distribution(model.weights())
        .sample((4,))
        .sum(-1)
        .allclose(torch.ones(4, dtype=DOUBLE))
    )
    draws = slopes.sample((4000,)).reshape(4000, 4)
    assert torch.allclose(draws.mean(0), guide.mean[-4:], atol=4 * 0.8 / 4000**0.5)
    assert torch.allclose(draws.std(0), guide.stddev[-4:], rtol=0.1)


def test_a_joint_point_has_points_as_marginals() -> None:
    model, world = joint_world(Delta(torch.linspace(-1, 1, 11, dtype=DOUBLE), event_dim=1))
    for query in model.queries:
        assert torch.equal(world.get_guide_distribution(query).v, world[query])


def test_a_joint_guide_without_known_marginals_says_so() -> None:
    model, world = joint_world(Independent(StudentT(torch.full((11,), 5.0, dtype=DOUBLE)), 1))
    with pytest.raises(ModelError, match="marginals of a joint Independent guide are not known"):
        world.get_guide_distribution(model.width())


def test_values_under_a_joint_guide_are_not_replaced_one_by_one() -> None:
    model, world = joint_world(joint_gaussian())
    with pytest.raises(ModelError, match="joint guide cannot be replaced"):
        world.replace({model.width(): torch.tensor(1.0)})


def test_the_model_s_distribution_follows_the_guides_draws() -> None:
    theta = random_variable(lambda: Gamma(2.0, 1.0))
    inside = random_variable(lambda: Uniform(0.0, theta()))
    q_theta = random_variable(lambda: Gamma(2.0, 5.0))
    world = VariationalWorld(queries_to_guides={theta(): q_theta()})
    assert world.get_distribution(inside()).high == world[theta()]
    assert inside() not in world
