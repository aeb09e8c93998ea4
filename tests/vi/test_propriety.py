"""Models whose posterior is improper are refused by name; proper ones, however heavy their tails, are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Beta,
    Cauchy,
    Dirichlet,
    Distribution,
    Gamma,
    HalfCauchy,
    Independent,
    LKJCholesky,
    LogNormal,
    Normal,
    Pareto,
    Poisson,
    StudentT,
    Uniform,
    VonMises,
    constraints,
)
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from vi_dist import Model, ModelError, random_variable
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density
from vi_dist.vi.layout import make_layout
from vi_dist.vi.propriety import check_proper


class Free(Distribution):
    """A prior that is a log density on a support, without normalisation or sampler."""

    def __init__(
        self, support: Any = constraints.real, shape: int | None = None, log: Any = torch.zeros_like
    ):
        self._support, self._log = support, log
        super().__init__(torch.Size([] if shape is None else [shape]), validate_args=False)

    @property
    def support(self) -> Any:
        return self._support

    def log_prob(self, value: Tensor) -> Tensor:
        log: Tensor = self._log(value)
        return log


Y = torch.tensor([1.0, 2.0, 3.0])
POSITIVE = constraints.positive
Make = Callable[..., Distribution]


def model_of(a: Callable[[], Distribution], b: Make | None, y: Make | None, data: Tensor) -> Model:
    def make_a() -> Distribution:
        return a()

    make_a.__name__ = "a"
    first = random_variable(make_a)

    def make_b() -> Distribution:
        assert b is not None
        return b(first())

    make_b.__name__ = "b"
    second = random_variable(make_b)
    latents = [first] if b is None else [first, second]

    def make_y() -> Distribution:
        assert y is not None
        return y(*(latent() for latent in latents))

    make_y.__name__ = "y"
    observed = {} if y is None else {random_variable(make_y)(): data}
    return Model([latent() for latent in latents], observed)


def check(
    a: Callable[[], Distribution], b: Make | None = None, y: Make | None = None, data: Tensor = Y
) -> None:
    with model_context(torch.float64):
        model = model_of(a, b, y, data.double())
        check_proper(Density(model, make_layout(model)))


def minus_log(value: Tensor) -> Tensor:
    return -value.log()


def thrice_cosine(value: Tensor) -> Tensor:
    return 3 * torch.cos(value)


IMPROPER: dict[str, tuple[str, tuple[Any, ...]]] = {
    "no data": ("a", (lambda: Free(), lambda a: Normal(0.0, 1.0), lambda a, b: Normal(b, torch.ones(3)))),
    "a sum": ("a and b", (lambda: Free(), lambda a: Free(), lambda a, b: Normal(a + b, torch.ones(3)))),
    "a sum with a vector": (
        "a and b",
        (lambda: Free(shape=3), lambda a: Free(), lambda a, b: Normal(a + b, torch.ones(3))),
    ),
    "collinear columns": (
        r"a\[0\], a\[1\]",
        (
            lambda: Free(shape=2),
            None,
            lambda a: Normal(torch.tensor([[1.0, 2], [2.0, 4], [3, 6]]) @ a, torch.ones(3)),
        ),
    ),
    "repeats": ("a", (lambda: Free(log=thrice_cosine), None, lambda a: Normal(torch.sin(a), torch.ones(3)))),
    "scale to zero": (
        "a",
        (
            lambda: Free(POSITIVE, log=minus_log),
            lambda a: Normal(torch.zeros(3), 1.0),
            lambda a, b: Normal(a * b, 1.0),
        ),
    ),
    "scale of groups to zero": (
        "a",
        (
            lambda: Free(POSITIVE, log=minus_log),
            lambda a: Normal(torch.zeros(3), a),
            lambda a, b: Normal(b, 1.0),
        ),
    ),
    "scale of a group to infinity": (
        "a",
        (lambda: Free(POSITIVE), lambda a: Normal(0.0, a), lambda a, b: Normal(b, 1.0), torch.tensor(1.0)),
    ),
    "scale to infinity": (
        "a",
        (lambda: Free(POSITIVE), lambda a: Normal(0.0, 1.0), lambda a, b: Normal(b, a), torch.tensor(1.0)),
    ),
    "separated classes": (
        "a",
        (lambda: Free(), None, lambda a: Bernoulli(logits=a * torch.tensor([1.0, 2.0, 3.0])), torch.ones(3)),
    ),
    "counts of zero": ("a", (lambda: Free(), None, lambda a: Poisson(a.exp().expand(3)), torch.zeros(3))),
    "levels off": ("a", (lambda: Free(), None, lambda a: Normal(torch.sigmoid(a / 1000), torch.ones(3)))),
    "likelihood without bound": (
        "a",
        (lambda: HalfCauchy(1.0), None, lambda a: Normal(0.0, a.expand(3)), torch.zeros(3)),
    ),
    "a density of fewer dimensions": (
        "a",
        (lambda: ExpRelaxedCategorical(torch.tensor(0.7), probs=torch.tensor([0.2, 0.3, 0.5])), None, None),
    ),
}


@pytest.mark.parametrize("name", IMPROPER)
def test_an_improper_posterior_is_refused_by_the_latents_name(name: str) -> None:
    words, (a, b, y, *data) = IMPROPER[name]
    with pytest.raises(ModelError, match=f"improper.* along {words}"):
        check(a, b, y, *data)


PROPER: dict[str, tuple[Any, ...]] = {
    "flat with data": (lambda: Free(), None, lambda a: Normal(a, torch.ones(3))),
    "flat with one datum": (lambda: Free(), None, lambda a: Cauchy(a, 1.0), torch.tensor(1.0)),
    "flat and heavy data": (lambda: Free(), None, lambda a: StudentT(0.6, a, torch.ones(3))),
    "flat scale with data": (
        lambda: Free(POSITIVE),
        lambda a: Normal(0.0, 1.0),
        lambda a, b: Normal(b, a.expand(3)),
    ),
    "scale by its inverse": (
        lambda: Free(POSITIVE, log=minus_log),
        lambda a: Free(),
        lambda a, b: Normal(b, a.expand(3)),
    ),
    "flat scale of groups": (
        lambda: Free(POSITIVE),
        lambda a: Normal(torch.zeros(3), a),
        lambda a, b: Normal(b, 1.0),
    ),
    "flat sum with a normal": (
        lambda: Free(),
        lambda a: Normal(0.0, 1.0),
        lambda a, b: Normal(a + b, torch.ones(3)),
    ),
    "flat logistic": (
        lambda: Free(),
        None,
        lambda a: Bernoulli(logits=a * torch.tensor([1.0, 2.0, 3.0])),
        torch.tensor([1.0, 0.0, 1.0]),
    ),
    "two wide normals": (
        lambda: Normal(0.0, 1e6),
        lambda a: Normal(0.0, 1e6),
        lambda a, b: Normal(a + b, torch.ones(3)),
    ),
    "Cauchy": (lambda: Cauchy(0.0, 1.0), None, None),
    "half-Cauchy": (lambda: HalfCauchy(torch.ones(3)), None, None),
    "Student's t of 0.6": (lambda: StudentT(0.6), None, None),
    "Student's t of 0.05": (lambda: StudentT(0.05), None, None),
    "horseshoe": (
        lambda: HalfCauchy(torch.ones(4)),
        lambda a: Normal(0.0, a),
        lambda a, b: Normal(b[:3], 1.0),
    ),
    "funnel": (lambda: Normal(0.0, 3.0), lambda a: Normal(torch.zeros(9), (a / 2).exp()), None),
    "Dirichlet": (lambda: Dirichlet(torch.full((4,), 0.05)), None, None),
    "Beta": (lambda: Beta(0.05, 0.05), None, None),
    "Gamma": (lambda: Gamma(0.05, 1.0), None, None),
    "Pareto": (lambda: Pareto(1.0, 0.1), None, None),
    "log-normal": (lambda: LogNormal(0.0, 50.0), None, None),
    "LKJ": (lambda: LKJCholesky(4, 0.5), None, None),
    "von Mises": (lambda: VonMises(torch.tensor(0.0), torch.tensor(4.0)), None, None),
    "uniform": (lambda: Uniform(-1e6, 1e6), None, lambda a: Normal(a, torch.ones(3))),
    "vectors": (lambda: Independent(StudentT(2.0, torch.zeros(3), 1.0), 1), None, None),
    "read in Python": (lambda: Free(), None, lambda a: Normal(a + 0 * float(a), torch.ones(3))),
}


@pytest.mark.parametrize("name", PROPER)
def test_a_proper_posterior_is_not_refused(name: str) -> None:
    check(*PROPER[name])


def test_a_shard_warns_of_what_it_cannot_know(caplog: pytest.LogCaptureFixture) -> None:
    with model_context(torch.float64):
        model = model_of(lambda: Free(), lambda a: Normal(0.0, 1.0), lambda a, b: Normal(b, 1.0), Y.double())
        check_proper(Density(model, make_layout(model)), observed=False)
    assert "the prior of a is improper" in caplog.text
