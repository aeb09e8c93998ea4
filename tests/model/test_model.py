"""A model is refused before any inference, with a message that names what is wrong."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    Dirichlet,
    Distribution,
    Gamma,
    MultivariateNormal,
    Normal,
    Uniform,
)

from vi_dist.errors import ModelError
from vi_dist.model.decorators import functional, param, random_variable
from vi_dist.model.model import Model, check_model


@random_variable
def mu() -> Distribution:
    """A latent."""
    return Normal(0.0, 1.0)


@random_variable
def rate() -> Distribution:
    """A positive latent."""
    return Gamma(2.0, 1.0)


@functional
def double() -> torch.Tensor:
    """A derived quantity."""
    return 2 * mu()


@param
def eta() -> torch.Tensor:
    """A param."""
    return torch.zeros(())


def observed_as(distribution: Distribution, value: torch.Tensor) -> Model:
    """A model of one observation with this distribution."""

    @random_variable
    def y() -> Distribution:
        mu()
        return distribution

    return Model([mu()], {y(): value})


def test_a_good_model_gives_its_world_and_draws_nothing() -> None:
    y = random_variable(lambda: Normal(double(), rate()))
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    world = check_model(Model([double()], {y(): torch.zeros(4)}, local=[mu()]))
    assert list(world.latent_nodes) == [mu(), rate()]
    assert torch.equal(torch.rand(2), expected)


def test_a_model_is_frozen_and_copies_its_observations() -> None:
    y = random_variable(lambda: Normal(mu(), 1.0))
    seen = {y(): torch.zeros(())}
    model = Model([mu()], seen)
    seen.clear()
    assert len(model.observations) == 1 and model.queries == (mu(),) and model.local == ()
    with pytest.raises(AttributeError):
        model.queries = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ([], "nothing to infer"),
        ([3], "3 is not a random variable or functional"),
        ([mu], "the function mu is not a random variable"),
        ([eta()], "param eta is not a random variable"),
    ],
)
def test_queries_must_be_random_variables_or_functionals(queries: list[object], message: str) -> None:
    with pytest.raises(ModelError, match=message) as error:
        check_model(Model(queries, {}))  # type: ignore[arg-type]
    assert error.value.key == "queries"


def test_build_must_return_a_model() -> None:
    with pytest.raises(ModelError, match="build returned tuple"):
        check_model(([mu()], {}))  # type: ignore[arg-type]


@pytest.mark.parametrize("node", ["y", eta(), double()])
def test_only_random_variables_are_observed(node: object) -> None:
    with pytest.raises(
        ModelError, match="only results of calling a @random_variable function can be observed"
    ):
        check_model(Model([mu()], {node: torch.zeros(())}))  # type: ignore[dict-item]


def test_an_observation_must_be_a_tensor() -> None:
    with pytest.raises(ModelError, match=r"y is observed as float; pass a tensor"):
        check_model(observed_as(Normal(0.0, 1.0), 3.0))  # type: ignore[arg-type]


def test_a_query_cannot_be_observed() -> None:
    with pytest.raises(ModelError, match="mu is observed, so it cannot be a query"):
        check_model(Model([mu()], {mu(): torch.zeros(())}))


def test_two_variables_of_one_name_are_refused() -> None:
    def other() -> Distribution:
        return Normal(0.0, 1.0)

    other.__name__ = "mu"
    with pytest.raises(ModelError, match="two variables are called mu"):
        check_model(Model([mu(), random_variable(other)()], {}))
    check_model(Model([mu(), mu()], {}))


def test_local_must_be_a_latent() -> None:
    with pytest.raises(ModelError, match="rate is not a latent") as error:
        check_model(Model([mu()], {}, local=[rate()]))
    assert error.value.key == "local"


@pytest.mark.parametrize(
    ("distribution", "shape"),
    [
        (Normal(torch.zeros(8), 1.0), (8,)),
        (Normal(0.0, 1.0), (8,)),
        (Normal(torch.zeros(1), 1.0), ()),
        (Normal(torch.zeros(8), 1.0), (3, 8)),
        (MultivariateNormal(torch.zeros(2), torch.eye(2)), (5, 2)),
    ],
)
def test_shapes_that_fit(distribution: Distribution, shape: tuple[int, ...]) -> None:
    check_model(observed_as(distribution, torch.zeros(shape)))


@pytest.mark.parametrize(
    ("distribution", "shape"),
    [
        (Normal(torch.zeros(3), 1.0), (8,)),
        (Normal(torch.zeros(8), 1.0), (8, 1)),
        (Normal(torch.zeros(8, 1), 1.0), (8,)),
        (Normal(torch.zeros(8), 1.0), ()),
        (MultivariateNormal(torch.zeros(2), torch.eye(2)), (3,)),
        (MultivariateNormal(torch.zeros(2), torch.eye(2)), (5, 1)),
        (MultivariateNormal(torch.zeros(2), torch.eye(2)), ()),
    ],
)
def test_shapes_that_do_not_fit(distribution: Distribution, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="y, observed, has shape .* does not fit its") as error:
        check_model(observed_as(distribution, torch.zeros(shape)))
    assert error.value.key == "observations"


@pytest.mark.parametrize(
    ("distribution", "value", "message"),
    [
        (
            Gamma(2.0, 1.0),
            torch.tensor([1.0, -1.0]),
            r"y is observed as -1\.0 at index \[1\], outside .* Gamma",
        ),
        (Bernoulli(0.5), torch.tensor([[0.0], [0.5]]), r"0\.5 at index \[1, 0\]"),
        (Binomial(torch.tensor([5, 9]), 0.5), torch.tensor([5.0, 10.0]), r"10\.0 at index \[1\]"),
        (Categorical(torch.ones(3)), torch.tensor([0, 3]), r"3 at index \[1\]"),
        (Dirichlet(torch.ones(2)), torch.tensor([0.5, 0.75]), r"\[0\.5, 0\.75\], outside"),
        (Normal(0.0, 1.0), torch.tensor([0.0, torch.nan]), r"nan at index \[1\]; drop or impute"),
        (Normal(0.0, 1.0), torch.tensor(torch.inf), r"y is observed as inf;"),
    ],
)
def test_values_that_cannot_have_been_drawn(
    distribution: Distribution, value: torch.Tensor, message: str
) -> None:
    with pytest.raises(ModelError, match=message) as error:
        check_model(observed_as(distribution, value))
    assert error.value.key == "observations"


def test_a_support_that_latents_move_is_not_judged_at_one_value() -> None:
    y = random_variable(lambda: Uniform(0.0, rate()))
    check_model(Model([rate()], {y(): torch.tensor(50.0)}))


def test_a_support_that_latents_do_not_move_is_judged() -> None:
    @random_variable
    def deaths() -> Distribution:
        return Binomial(torch.tensor([5, 9]), logits=mu())

    with pytest.raises(ModelError, match=r"deaths is observed as 10\.0 at index \[1\]"):
        check_model(Model([mu()], {deaths(): torch.tensor([5.0, 10.0])}))
