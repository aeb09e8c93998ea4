"""Where latents and params stand in the flat vector, and which models cannot be laid out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Beta,
    Dirichlet,
    Distribution,
    Gamma,
    HalfCauchy,
    LKJCholesky,
    LogNormal,
    MultivariateNormal,
    Normal,
    Uniform,
    biject_to,
    constraints,
)

from vi_dist.errors import ModelError
from vi_dist.model.decorators import functional, param, random_variable
from vi_dist.model.model import Model
from vi_dist.vi.context import model_context
from vi_dist.vi.layout import Layout, element_names, make_layout


class Zoo:
    """One latent of every support, a param, an observation."""

    @param
    def slope(self) -> Tensor:
        return torch.tensor([0.5, -1.0])

    @random_variable
    def scale(self) -> Distribution:
        return HalfCauchy(2.0)

    @random_variable
    def below(self) -> Distribution:
        return Uniform(0.0, self.scale())

    @random_variable
    def weights(self) -> Distribution:
        return Dirichlet(torch.ones(2, 3))

    @random_variable
    def factor(self) -> Distribution:
        return LKJCholesky(3, 2.0)

    @random_variable
    def theta(self, i: int) -> Distribution:
        return Normal(self.below() * torch.ones(2), 1.0)

    @functional
    def total(self) -> Tensor:
        return self.theta(0).sum() + self.scale()

    @random_variable
    def y(self) -> Distribution:
        return Normal(self.theta(0)[0] + self.slope().sum(), self.scale())

    def model(self) -> Model:
        queries = [self.weights(), self.total(), self.theta(1), self.factor()]
        return Model(queries, {self.y(): torch.tensor(0.3)})


@pytest.fixture
def zoo() -> Layout:
    with model_context(torch.float64):
        return make_layout(Zoo().model())


def test_latents_stand_in_order_of_first_appearance_then_params(zoo: Layout) -> None:
    assert [(site.name, site.size) for site in zoo.latents] == [
        ("weights", 4),
        ("scale", 1),
        ("below", 1),
        ("theta(0)", 2),
        ("theta(1)", 2),
        ("factor", 3),
    ]
    assert [(site.name, site.size, site.start) for site in zoo.params] == [("slope", 2, 13)]
    assert zoo.size == 13
    ends = [site.start + site.size for site in (*zoo.latents, *zoo.params)]
    assert [0, *ends[:-1]] == [site.start for site in (*zoo.latents, *zoo.params)]
    assert zoo.eta.tolist() == [0.5, -1.0]
    assert [site.name for site in zoo.noise.sites] == [site.name for site in zoo.latents]
    assert zoo.noise.size == zoo.size


def test_shapes_in_both_spaces(zoo: Layout) -> None:
    shapes = {site.name: (tuple(site.shape), tuple(site.unconstrained_shape)) for site in zoo.latents}
    assert shapes["weights"] == ((2, 3), (2, 2))
    assert shapes["factor"] == ((3, 3), (3,))
    assert shapes["scale"] == ((), ())
    taken = zoo.latents[0].take(torch.arange(15.0))
    assert taken.tolist() == [[0.0, 1.0], [2.0, 3.0]]


def test_laying_out_twice_gives_the_same_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = make_layout(Zoo().model()), make_layout(Zoo().model())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.loc, second.loc)


@pytest.mark.parametrize(
    "prior",
    [
        Normal(3.0, 2.0),
        LogNormal(1.0, 0.5),
        Gamma(2.0, 3.0),
        Beta(2.0, 5.0),
        Uniform(-4.0, 1.0),
        HalfCauchy(2.0),
    ],
    ids=lambda prior: type(prior).__name__,
)
def test_guides_start_near_the_prior_s_median(prior: Distribution) -> None:
    latent = random_variable(lambda: prior)
    layout = make_layout(Model([latent()], {}))
    value = biject_to(prior.support)(layout.loc[0])
    draws = prior.sample((4000,))
    below = float((draws < value).float().mean())
    assert 0.4 < below < 0.6


def test_dtype_is_the_context_s() -> None:
    for dtype in (torch.float32, torch.float64):
        with model_context(dtype):
            assert make_layout(Zoo().model()).loc.dtype == dtype


def test_float64_data_keep_a_float64_model_in_float64() -> None:
    theta = random_variable(lambda: Normal(torch.zeros(2, dtype=torch.float64), 1.0))
    assert make_layout(Model([theta()], {})).loc.dtype == torch.float64


def test_a_model_of_discrete_latents_alone_is_refused_by_name() -> None:
    def coin() -> Distribution:
        return Bernoulli(0.5)

    with pytest.raises(ModelError, match="coin: guides are of continuous latents") as caught:
        make_layout(Model([random_variable(coin)()], {}))
    assert caught.value.key == "guide"


class Elsewhere(Normal):
    """A distribution whose support torch knows no bijection for."""

    support = constraints.positive_semidefinite


class Nowhere(Normal):
    """A distribution that does not say where it lives."""

    @property
    def support(self) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(("kind", "words"), [(Elsewhere, "no bijection"), (Nowhere, "states no support")])
def test_supports_without_a_way_to_the_reals_are_refused_by_name(kind: type[Normal], words: str) -> None:
    def theta() -> Distribution:
        return kind(0.0, 1.0)

    with pytest.raises(ModelError, match=words) as caught:
        make_layout(Model([random_variable(theta)()], {}))
    assert "theta" in str(caught.value)


def test_a_model_without_latents_is_refused() -> None:
    y = random_variable(lambda: Normal(0.0, 1.0))
    constant = functional(lambda: torch.zeros(()))
    with pytest.raises(ModelError, match="nothing to approximate"):
        make_layout(Model([constant()], {y(): torch.tensor(0.0)}))


def test_an_observed_discrete_variable_is_no_latent() -> None:
    rate = random_variable(lambda: Beta(1.0, 1.0))
    coin = random_variable(lambda: Bernoulli(rate()))
    layout = make_layout(Model([rate()], {coin(): torch.tensor(1.0)}))
    assert [site.name for site in layout.latents] == ["<lambda>"]


def test_multivariate_normals_have_one_coordinate_a_dimension() -> None:
    theta = random_variable(lambda: MultivariateNormal(torch.zeros(2, 3), torch.eye(3)))
    assert make_layout(Model([theta()], {})).latents[0].unconstrained_shape == (2, 3)


def test_names_of_elements_are_row_major() -> None:
    assert element_names("x", (2, 1, 2)) == ["x[0,0,0]", "x[0,0,1]", "x[1,0,0]", "x[1,0,1]"]
