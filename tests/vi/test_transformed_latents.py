"""Latents whose distribution is a transformed one: their log joint against quadrature in the model's own space."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    AffineTransform,
    Beta,
    Distribution,
    Exponential,
    ExpTransform,
    Gamma,
    HalfNormal,
    Independent,
    Normal,
    PowerTransform,
    SigmoidTransform,
    TransformedDistribution,
    Uniform,
    VonMises,
)

from vi_dist import Experiment, Model, ModelError, random_variable
from vi_dist.model.model import check_model
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density
from vi_dist.vi.layout import make_layout

F64 = torch.float64


def of(base: Distribution, *transforms: object) -> Distribution:
    return TransformedDistribution(base, list(transforms))  # type: ignore[arg-type]


# Priors with the bounds between which they have nearly all their mass.
PRIORS: dict[str, tuple[Callable[[], Distribution], float, float]] = {
    "half_normal": (lambda: of(HalfNormal(1.0), AffineTransform(1.0, 1.0)), 1.0, 12.0),
    "negative_scale": (lambda: of(Gamma(2.0, 1.0), AffineTransform(3.0, -0.5)), -20.0, 3.0),
    "beta": (lambda: of(Beta(2.0, 3.0), AffineTransform(-1.0, 2.0)), -1.0, 1.0),
    "power": (lambda: of(Beta(3.0, 3.0), PowerTransform(torch.tensor(2.0))), 0.0, 1.0),
    "exp": (lambda: of(Uniform(0.0, 1.0), ExpTransform()), 1.0, math.e),
    "sigmoid": (lambda: of(Exponential(1.0), SigmoidTransform()), 0.5, 1.0 - 1e-9),
    "chain": (lambda: of(of(Beta(2.0, 2.0), AffineTransform(1.0, 2.0)), ExpTransform()), math.e, math.exp(3)),
    "angle": (lambda: VonMises(torch.tensor(2.0), torch.tensor(3.0)), 2 - math.pi, 2 + math.pi),
}


@pytest.mark.parametrize("name", PRIORS)
def test_the_evidence_over_coordinates_is_that_over_values(name: str) -> None:
    make, low, high = PRIORS[name]
    theta = random_variable(lambda: make())
    y = random_variable(lambda: Normal(theta(), 1.0))
    with model_context(F64):
        model = Model([theta()], {y(): torch.tensor(0.7)})
        density = Density(model, make_layout(model))
        u = torch.linspace(-40.0, 40.0, 40_001)
        over_coordinates = torch.trapezoid(torch.vmap(density)(u[:, None]).exp(), u)
        values = torch.linspace(low, high, 400_003)[1:-1]
        joint = make().log_prob(values) + Normal(values, 1.0).log_prob(torch.tensor(0.7))
        over_values = torch.trapezoid(joint.exp(), values)
    torch.testing.assert_close(over_coordinates, over_values, rtol=2e-4, atol=0.0)


def test_transforms_may_depend_on_latents() -> None:
    low = random_variable(lambda: Normal(0.0, 1.0))
    theta = random_variable(lambda: of(HalfNormal(1.0), AffineTransform(low(), 2.0)))
    with model_context(F64):
        model = Model([low(), theta()], {})
        density = Density(model, make_layout(model))
        row = torch.tensor([0.5, -0.3])
        values = density.constrain(row)
        x = torch.tensor(-0.3).exp()
        assert float(values[str(theta())]) == pytest.approx(0.5 + 2 * float(x))
        expected = Normal(0.0, 1.0).log_prob(row[0]) + HalfNormal(1.0).log_prob(x) + row[1]
    torch.testing.assert_close(density(row), expected)


def test_without_the_jacobian_the_density_is_that_of_the_value() -> None:
    prior = of(HalfNormal(1.0), AffineTransform(1.0, 2.0))
    theta = random_variable(lambda: prior)
    model = Model([theta()], {})
    density = Density(model, make_layout(model), jacobian=False)
    value = 1.0 + 2.0 * torch.tensor(0.4).exp()
    torch.testing.assert_close(density(torch.tensor([0.4])), prior.log_prob(value))


def test_an_observed_value_is_compared_with_the_image() -> None:
    @random_variable
    def y() -> Distribution:
        return Independent(of(HalfNormal(torch.ones(3)), AffineTransform(1.0, 1.0)), 0)

    @random_variable
    def mu() -> Distribution:
        return Normal(0.0, 1.0)

    check_model(Model([mu()], {y(): torch.tensor([1.5, 2.0, 3.0])}))
    with pytest.raises(ModelError, match=r"0\.5.*\[1\].*AffineTransform"):
        check_model(Model([mu()], {y(): torch.tensor([1.5, 0.5, 3.0])}))


def test_a_fit_has_its_draws_inside_and_its_bound_below_the_evidence() -> None:
    def build(data: dict[str, Tensor]) -> Model:
        @random_variable
        def theta() -> Distribution:
            return of(HalfNormal(1.0), AffineTransform(1.0, 1.0))

        @random_variable
        def y() -> Distribution:
            return Normal(theta(), 1.0)

        return Model([theta()], {y(): data["y"]})

    fit = Experiment(build, name="moved", data={"y": 0.3}).fit(learning_rate=0.05, steps=400, compile="never")
    (draws,) = fit.sample(2000).values()
    assert float(draws.min()) > 1.0
    assert float(draws.mean()) == pytest.approx(1.454, abs=0.06)
    assert fit.elbo - 4 * fit.elbo_se < -1.865
