"""The flat density against plain log_prob plus the log determinant of the whole map, for every kind of support."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.distributions import (
    Beta,
    Dirichlet,
    Distribution,
    Gamma,
    HalfCauchy,
    Independent,
    LKJCholesky,
    MultivariateNormal,
    Normal,
    StudentT,
    Uniform,
    biject_to,
)

from vi_dist.errors import ModelError
from vi_dist.model.decorators import functional, param, random_variable
from vi_dist.model.model import Model
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density
from vi_dist.vi.layout import make_layout

F64 = torch.float64


def free(value: Tensor, distribution: Distribution) -> Tensor:
    """The coordinates of a value that its density is stated in: one of a simplex and half a square are redundant."""
    if isinstance(distribution, Dirichlet):
        return value[..., :-1].reshape(-1)
    if isinstance(distribution, LKJCholesky):
        rows, columns = torch.tril_indices(*value.shape[-2:], offset=-1)
        return value[..., rows, columns].reshape(-1)
    return value.reshape(-1)


@dataclass(frozen=True)
class Case:
    """Latents as a chain: each distribution is made from the values before it."""

    name: str
    chain: tuple[Callable[..., Distribution], ...]
    integral: bool = False  # whether it is small enough to be integrated on a grid

    def model(self) -> Model:
        made: list[Callable[[], Tensor]] = []
        for number, distribution in enumerate(self.chain):
            parents = tuple(made)

            def latent(
                distribution: Callable[..., Distribution] = distribution,
                parents: tuple[Callable[[], Tensor], ...] = parents,
            ) -> Distribution:
                return distribution(*(parent() for parent in parents))

            latent.__name__ = f"x{number}"
            variable = random_variable(latent)
            made.append(variable)
        return Model([variable() for variable in made], {})

    def plain(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of log_prob at the constrained values, and those values' free coordinates, without any World."""
        values: list[Tensor] = []
        total, coordinates, start = flat.new_zeros(()), [], 0
        for make in self.chain:
            distribution = make(*values)
            transform = biject_to(distribution.support)
            shape = transform.inverse_shape(distribution.batch_shape + distribution.event_shape)
            size = math.prod(shape)
            value = transform(flat[start : start + size].reshape(shape))
            start += size
            total = total + distribution.log_prob(value).sum()
            values.append(value)
            coordinates.append(free(value, distribution))
        return total, torch.cat(coordinates)


CASES = [
    Case("real", (lambda: Normal(1.0, 2.0),), True),
    Case("positive", (lambda: Gamma(2.0, 3.0),), True),
    Case("half_line_heavy", (lambda: HalfCauchy(2.0),)),
    Case("unit", (lambda: Beta(2.0, 3.0),), True),
    Case("interval", (lambda: Uniform(-3.0, 2.0),), True),
    Case("simplex", (lambda: Dirichlet(torch.tensor([2.0, 1.5, 3.0])),), True),
    Case("simplexes", (lambda: Dirichlet(torch.ones(3, 4) * 2),)),
    Case("correlation", (lambda: LKJCholesky(2, 1.5),), True),
    Case("correlations", (lambda: LKJCholesky(4, 2.0),)),
    Case("dependent_bound", (lambda: Gamma(3.0, 1.0), lambda x: Uniform(0.0, x)), True),
    Case("multivariate", (lambda: MultivariateNormal(torch.zeros(3), torch.eye(3) + 0.3),)),
    Case("independent", (lambda: Independent(Gamma(torch.ones(2, 3) * 2, 1.0), 1),)),
    Case("vector", (lambda: HalfCauchy(torch.ones(2)), lambda s: StudentT(4.0, torch.zeros(3, 2), s))),
    Case(
        "covariance",
        (
            lambda: HalfCauchy(torch.ones(3)),
            lambda s: LKJCholesky(3, 2.0),
            lambda s, l: MultivariateNormal(torch.zeros(3), scale_tril=s[:, None] * l),
        ),
    ),
]
every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@every
def test_density_is_log_prob_plus_the_log_determinant(case: Case) -> None:
    with model_context(F64):
        model = case.model()
        layout = make_layout(model)
        for shift in (0.0, 0.7):
            flat = layout.loc + shift * torch.randn(layout.size, generator=torch.Generator().manual_seed(1))
            log_prob, _ = case.plain(flat)
            slope = jacobian(lambda x: case.plain(x)[1], flat)
            assert slope.shape == (layout.size, layout.size)
            volume = torch.linalg.slogdet(slope).logabsdet
            torch.testing.assert_close(Density(model, layout)(flat), log_prob + volume, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(
                Density(model, layout, jacobian=False)(flat), log_prob, rtol=1e-12, atol=1e-12
            )


@pytest.mark.parametrize("case", [case for case in CASES if case.integral], ids=lambda case: case.name)
def test_a_prior_integrates_to_one(case: Case) -> None:
    with model_context(F64):
        model = case.model()
        layout = make_layout(model)
        density = Density(model, layout)
        points = torch.linspace(-14.0, 14.0, 281 if layout.size == 2 else 2001)
        grid = torch.cartesian_prod(*[points] * layout.size).reshape(-1, layout.size)
        values = torch.vmap(density)(grid).exp()
        assert float(values.sum() * (points[1] - points[0]) ** layout.size) == pytest.approx(1.0, abs=2e-5)


class Full:
    """A model with everything: a param, an observation, functionals, an observed variable read by another."""

    @param
    def eta(self) -> Tensor:
        return torch.tensor(0.5)

    @random_variable
    def tau(self) -> Distribution:
        return Gamma(2.0, 1.0)

    @random_variable
    def x(self) -> Distribution:
        return Normal(self.eta(), self.tau())

    @random_variable
    def y(self) -> Distribution:
        return Normal(self.x() * torch.ones(3), 1.5)

    @functional
    def double(self) -> Tensor:
        return 2 * self.tau()

    def model(self) -> Model:
        data = torch.tensor([0.1, 0.2, -0.4])
        return Model([self.x(), self.double()], {self.y(): data})


def test_params_stand_behind_the_latents_and_have_no_prior() -> None:
    with model_context(F64):
        model = Full().model()
        layout = make_layout(model)
        flat = torch.tensor([0.3, -0.2, 1.7])
        names = [site.name for site in layout.latents]
        at = dict(zip(names, flat[:2], strict=True))
        tau, x = at["tau"].exp(), at["x"]
        data = next(iter(model.observations.values()))
        expected = Gamma(2.0, 1.0).log_prob(tau) + at["tau"] + Normal(1.7, tau).log_prob(x)
        expected = expected + Normal(x, 1.5).log_prob(data).sum()
        torch.testing.assert_close(Density(model, layout)(flat), expected, rtol=1e-13, atol=1e-13)
        (slope,) = jacobian(Density(model, layout), (flat,))
        assert float(slope[2]) == pytest.approx(float((x - 1.7) / tau**2))


def test_constrain_gives_the_queries_functionals_included() -> None:
    with model_context(F64):
        model = Full().model()
        layout = make_layout(model)
        flat = torch.tensor([0.3, -0.2, 1.7])
        at = dict(zip([site.name for site in layout.latents], flat[:2], strict=True))
        values = Density(model, layout).constrain(flat)
        assert list(values) == ["x", "double"]
        assert float(values["x"]) == float(at["x"])
        torch.testing.assert_close(values["double"], 2 * at["tau"].exp())


def test_a_latent_that_appears_with_a_value_is_named() -> None:
    x = random_variable(lambda: Normal(0.0, 1.0))

    def hidden() -> Distribution:
        return Normal(0.0, 1.0)

    hidden_variable = random_variable(hidden)
    y = random_variable(lambda: Normal(hidden_variable() if x() > 1 else x(), 1.0))
    model = Model([x()], {y(): torch.tensor(0.0)})
    layout = make_layout(model)
    assert bool(Density(model, layout)(torch.tensor([0.5])).isfinite())
    with pytest.raises(ModelError, match="hidden appeared after the model was laid out"):
        Density(model, layout)(torch.tensor([1.5]))
