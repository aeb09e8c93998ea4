"""Models without a finite density or gradient are refused by variable, element and value; limits are fitted."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    AbsTransform,
    Bernoulli,
    Beta,
    Binomial,
    Dirichlet,
    Distribution,
    Exponential,
    Gamma,
    Independent,
    LogNormal,
    NegativeBinomial,
    Normal,
    Pareto,
    Poisson,
    PowerTransform,
    SoftmaxTransform,
    StudentT,
    TransformedDistribution,
    Uniform,
    constraints,
)

from vi_dist import Experiment, Model, ModelError, World, random_variable
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density
from vi_dist.vi.finite_check import check_finite
from vi_dist.vi.layout import make_layout

Y, X = torch.tensor([0.0, 1.0, 4.0, 2.0, 1.0]), torch.tensor([0.0, 1.0, 2.0, 3.0, 0.0])
LIMIT = torch.tensor([0.0, 1.0, 4.0, 2.0, 0.0])
Prior, Given = Callable[[], Distribution], Callable[[Any], Distribution]


def density_of(prior: Prior, given: Given, data: Tensor) -> Density:
    def a() -> Distribution:
        return prior()

    a_variable = random_variable(a)

    def y() -> Distribution:
        return given(a_variable())

    model = Model([a_variable()], {random_variable(y)(): data.to(torch.get_default_dtype())})
    return Density(model, make_layout(model))


def normal() -> Distribution:
    return Normal(0.0, 1.0)


def log_normal() -> Distribution:
    return LogNormal(0.0, 1.0)


def x() -> Tensor:
    return X.double()


REFUSED: dict[str, tuple[str, tuple[Prior, Given, Tensor]]] = {
    "a share of one": (
        r"y\[1\] = 1 .*Beta\(",
        (log_normal, lambda a: Beta(a, 2.0).expand([2]), torch.tensor([0.2, 1.0])),
    ),
    "a share of zero": (
        r"y\[0\] = 0 .*Beta\(",
        (log_normal, lambda a: Beta(a + 1, 2.0).expand([2]), torch.tensor([0.0, 0.3])),
    ),
    "a row with a zero": (
        r"y\[1\] = \[0, 0.5, 0.5\] .*Dirichlet",
        (
            log_normal,
            lambda a: Dirichlet(a * torch.ones(2, 3)),
            torch.tensor([[0.2, 0.3, 0.5], [0.0, 0.5, 0.5]]),
        ),
    ),
    "a time of zero": (
        r"y\[1\] = 0 .*Gamma",
        (log_normal, lambda a: Gamma(a + 1, 1.0).expand([2]), torch.tensor([1.0, 0.0])),
    ),
    "the open end": (
        r"y\[1\] = 1 .*Uniform",
        (normal, lambda a: Uniform(0 * a, 1.0).expand([2]), torch.tensor([0.5, 1.0])),
    ),
    "a scale of zero": (
        r"y\[0\] = 0 .*scale=0.*greater than 0",
        (normal, lambda a: StudentT(3.0, a, x()), Y),
    ),
    "a negative scale": (
        r"y\[0\] = 0 .*scale=-1.*greater than 0",
        (normal, lambda a: Normal(a, x() - 1.0), Y),
    ),
    "the log of a zero": (
        r"y\[0\] = 0 .*loc=.*finite.*log of a zero",
        (normal, lambda a: Normal(a * x().log(), 1.0), Y),
    ),
    "a division by zero": (
        r"y\[0\] = 0 .*loc=.*division by zero",
        (normal, lambda a: Normal(a / x(), 1.0), Y),
    ),
    "a count without exposure": (
        r"y\[4\] = 1 .*Poisson\(rate=0\)",
        (normal, lambda a: Poisson(x() * a.exp()), Y),
    ),
    "a count of mean zero": (
        r"y\[4\] = 1 .*NegativeBinomial",
        (normal, lambda a: NegativeBinomial(2.0, logits=x().log() + a), Y),
    ),
    "a root of zero": (
        r"y has no finite gradient.*square root",
        (normal, lambda a: Normal((a.square() * x()).sqrt(), 1.0), Y),
    ),
    "a normal rate": (r"y's Poisson gets rate = -.*at least 0", (normal, lambda a: Poisson(a.expand(5)), Y)),
    "a normal scale": (
        r"y's Normal gets scale = -.*greater than 0",
        (lambda: Normal(1.0, 1.0), lambda a: Normal(0.0, a.expand(5)), Y),
    ),
    "a normal probability": (
        r"y's Bernoulli gets probs = .*between 0 and 1",
        (lambda: Normal(0.5, 0.5), lambda a: Bernoulli(a.expand(5)), (Y > 1).float()),
    ),
    "the log of a normal": (
        r"draws around the start y\[0\]",
        (normal, lambda a: Normal(a.log(), torch.ones(5)), Y),
    ),
}


NOT_ONE_TO_ONE = {
    "absolute value": AbsTransform(),
    "softmax": SoftmaxTransform(),
    "square": PowerTransform(torch.tensor(2.0)),
}


@pytest.mark.parametrize("name", NOT_ONE_TO_ONE)
def test_a_transform_that_is_not_one_to_one_is_refused_by_name(name: str) -> None:
    transform = NOT_ONE_TO_ONE[name]

    def prior() -> Distribution:
        return TransformedDistribution(Normal(torch.zeros(5), 1.0), [transform])

    with (
        model_context(torch.float64),
        pytest.raises(ModelError, match=f" of a goes through {type(transform).__name__}"),
    ):
        check_finite(density_of(prior, lambda a: Normal(a, 1.0), Y))


class Truncated(Normal):
    """A density on positive numbers that says it has all."""

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.where(value > 0, super().log_prob(value), torch.full_like(value, -math.inf))


def test_a_support_that_is_too_wide_is_refused_by_name() -> None:
    with (
        model_context(torch.float64),
        pytest.raises(ModelError, match="a = -.* no density under its Truncated"),
    ):
        check_finite(density_of(lambda: Truncated(0.5, 1.0), lambda a: Normal(a, torch.ones(5)), Y))


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_guide_can_fit_is_refused_by_element_and_value(name: str) -> None:
    words, arguments = REFUSED[name]
    with model_context(torch.float64), pytest.raises(ModelError, match=words):
        check_finite(density_of(*arguments))


ACCEPTED: dict[str, tuple[Prior, Given, Tensor]] = {
    "zero trials": (normal, lambda a: Binomial(x(), logits=a), torch.tensor([0.0, 1.0, 1.0, 2.0, 0.0])),
    "zero times": (log_normal, lambda a: Exponential(a).expand([2]), torch.tensor([0.0, 3.0])),
    "a support that depends on a latent": (
        lambda: Pareto(1.0, 1.0),
        lambda a: Uniform(0.0, a).expand([2]),
        torch.tensor([1.0, 2.0]),
    ),
    "all successes": (lambda: Beta(1.0, 1.0), lambda a: Bernoulli(a).expand([3]), torch.ones(3)),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_has_a_density_and_a_slope_is_accepted(name: str) -> None:
    with model_context(torch.float64):
        check_finite(density_of(*ACCEPTED[name]))


def rate(exposure: Tensor, a: Tensor) -> Tensor:
    return exposure * a.exp()


LIMITS: dict[str, Callable[[Tensor, Tensor], Distribution]] = {
    "Poisson": lambda exposure, a: Poisson(rate(exposure, a)),
    "negative binomial": lambda exposure, a: NegativeBinomial(2.0, logits=exposure.log() + a),
    "negative binomial by probabilities": lambda exposure, a: NegativeBinomial(
        2.0, probs=rate(exposure, a) / (2.0 + rate(exposure, a))
    ),
    "joined": lambda exposure, a: Independent(Poisson(rate(exposure, a)), 1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LIMITS)
def test_elements_at_their_limit_add_nothing(name: str, dtype: torch.dtype) -> None:
    with model_context(dtype):
        exposure, y = X.to(dtype), LIMIT.to(dtype)
        whole = density_of(normal, lambda a: LIMITS[name](exposure, a), y)
        kept = exposure > 0
        rest = density_of(normal, lambda a: LIMITS[name](exposure[kept], a), y[kept])
        check_finite(whole)
        flat = torch.tensor([0.3], dtype=dtype, requires_grad=True)
        torch.testing.assert_close(whole(flat), rest(flat))
        (slope,), (expected,) = torch.autograd.grad(whole(flat), flat), torch.autograd.grad(rest(flat), flat)
        torch.testing.assert_close(slope, expected)


def test_a_fit_with_elements_at_their_limit_is_that_without_them() -> None:
    def build(data: dict[str, Tensor]) -> Model:
        @random_variable
        def a() -> Distribution:
            return Normal(0.0, 1.0)

        @random_variable
        def y() -> Distribution:
            return NegativeBinomial(2.0, logits=data["x"].log() + a())

        return Model([a()], {y(): data["y"]})

    kept = X > 0
    fits = [
        Experiment(build, name="limit", data=data).fit(
            steps=60, learning_rate=0.05, samples=256, compile="never"
        )
        for data in ({"x": X, "y": LIMIT}, {"x": X[kept], "y": LIMIT[kept]})
    ]
    assert [fit.status for fit in fits] == ["finished", "finished"]
    assert fits[0].elbo == pytest.approx(fits[1].elbo, abs=1e-4)


class Flat(Distribution):
    """A density without sampler."""

    support = constraints.real

    def __init__(self) -> None:
        super().__init__(validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.zeros_like(value)


def flat_build(data: dict[str, Tensor]) -> Model:
    @random_variable
    def mu() -> Distribution:
        return Flat()

    @random_variable
    def y() -> Distribution:
        return Normal(mu(), torch.ones(3))

    return Model([mu()], {y(): data["y"]})


@pytest.mark.parametrize("more", [{}, {"initialisation": "values", "initial_values": {"mu": 1.0}}])
def test_a_prior_without_sampler_is_fitted(more: dict[str, Any]) -> None:
    fit = Experiment(flat_build, name="flat", data={"y": [1.0, 2.0, 3.0]}).fit(
        steps=300, learning_rate=0.05, compile="never", **more
    )
    draws = fit.sample(2000)["mu"]
    assert float(draws.mean()) == pytest.approx(2.0, abs=0.1)
    assert float(draws.std()) == pytest.approx(1 / math.sqrt(3), abs=0.06)
    assert fit.predict(4)["y"].shape == (4, 3)


def test_a_world_names_the_variable_that_cannot_be_drawn() -> None:
    model = flat_build({"y": torch.tensor([1.0, 2.0, 3.0])})
    with pytest.raises(ModelError, match="mu cannot be drawn: its Flat"):
        World(model.observations).call(model.queries[0])


def test_a_fit_of_which_no_step_was_taken_has_diverged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)

    def build(data: dict[str, Tensor]) -> Model:
        @random_variable
        def a() -> Distribution:
            return LogNormal(-1.5, 1.0)

        @random_variable
        def y() -> Distribution:
            return Uniform(0.0, a()).expand([2])

        return Model([a()], {y(): data["y"]})

    fit = Experiment(build, name="bound", data={"y": [1.0, 0.5]}).fit(steps=8, samples=64, compile="never")
    assert fit.status == "diverged" and "none of its 8 steps" in fit.reason
    assert math.isnan(fit.elbo)
