"""From a model of one sample to a program over rows: flat where that is right, a loop elsewhere, the same numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Dirichlet,
    Distribution,
    Gamma,
    HalfCauchy,
    LKJCholesky,
    MixtureSameFamily,
    MultivariateNormal,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
    Uniform,
)

from vi_dist.errors import ModelError
from vi_dist.model.decorators import param, random_variable
from vi_dist.model.model import Model
from vi_dist.vi.context import model_context

F64 = torch.float64


def model_of(
    prior: Callable[[], Distribution], likelihood: Callable[[Tensor], Distribution], data: Tensor
) -> Model:
    """theta ~ prior, y ~ likelihood(theta)."""
    theta = random_variable(prior)
    y = random_variable(lambda: likelihood(theta()))
    return Model([theta()], {y(): data})


def normals() -> Distribution:
    return Normal(torch.zeros(2), 1.0)


FLAT: dict[str, Callable[[], Model]] = {
    "normal": lambda: model_of(normals, lambda t: Normal(t[torch.tensor([0, 1, 1])], 1.0), torch.zeros(3)),
    "positive": lambda: model_of(lambda: Gamma(torch.ones(2), 1.0), lambda t: Normal(0.0, t), torch.ones(2)),
    "half_cauchy": lambda: model_of(lambda: HalfCauchy(torch.ones(2)), lambda t: Normal(0.0, t), torch.ones(2)),
    "interval": lambda: model_of(lambda: Beta(torch.ones(2), 2.0), lambda t: Bernoulli(t), torch.ones(2)),
    "simplex": lambda: model_of(
        lambda: Dirichlet(torch.ones(3)), lambda t: Categorical(t), torch.tensor([0, 2, 1])
    ),
    "correlation": lambda: model_of(
        lambda: LKJCholesky(3, 2.0), lambda t: MultivariateNormal(torch.zeros(3), scale_tril=t), torch.ones(3)
    ),
    "dependent": lambda: dependent(),
    "covariance": lambda: model_of(
        lambda: Gamma(torch.tensor(2.0), 1.0),
        lambda t: MultivariateNormal(torch.zeros(2), torch.eye(2) * t),
        torch.ones(2),
    ),
    "bernoulli_logits": lambda: model_of(
        normals, lambda t: Bernoulli(logits=torch.arange(20.0).reshape(10, 2) @ t), torch.ones(10)
    ),
    "binomial": lambda: model_of(normals, lambda t: Binomial(torch.tensor(5.0), logits=t), torch.ones(2)),
    "poisson": lambda: model_of(normals, lambda t: Poisson(t.exp()), torch.ones(2)),
    "negative_binomial": lambda: model_of(normals, lambda t: NegativeBinomial(3.0, logits=t), torch.ones(2)),
    "student_t": lambda: model_of(normals, lambda t: StudentT(4.0, t, 1.0), torch.ones(2)),
    "mixture": lambda: model_of(
        normals, lambda t: MixtureSameFamily(Categorical(logits=t), Normal(torch.zeros(2), t.exp())), torch.ones(4)
    ),
}  # fmt: skip


def dependent() -> Model:
    theta = random_variable(lambda: Gamma(2.0, 1.0))

    def below() -> Distribution:
        return Uniform(0.0, theta())

    u = random_variable(below)
    y = random_variable(lambda: Normal(u(), 1.0))
    return Model([theta(), u()], {y(): torch.tensor(0.5)})


def branch(t: Tensor) -> Distribution:
    return Normal(t.sum() ** 2, 1.0) if t[0] > 0 else Normal(t.sum(), 2.0)


def read_by_tolist(t: Tensor) -> Distribution:
    return Normal(torch.tensor(t.tolist()).sum() + t.sum(), 1.0)


def read_by_numpy(t: Tensor) -> Distribution:
    return Normal(torch.as_tensor(t.detach().numpy() ** 2).sum() + t.sum(), 1.0)


def read_by_item(t: Tensor) -> Distribution:
    return Normal(t[0].item() + t.sum(), 1.0)


def stopped_by_detach(t: Tensor) -> Distribution:
    return Normal((t.detach() ** 2).sum() + t.sum(), 1.0)


def stopped_by_no_grad(t: Tensor) -> Distribution:
    with torch.no_grad():
        square = (t**2).sum()
    return Normal(square + t.sum(), 1.0)


LOOPS: dict[str, tuple[Callable[[Tensor], Distribution], str]] = {
    "if": (branch, "control flow"),
    "item": (read_by_item, "trying to get value out"),
    "tolist": (read_by_tolist, "reads a value in Python"),
    "numpy": (read_by_numpy, "reads a value in Python"),
    "detach": (stopped_by_detach, "stops one"),
    "no_grad": (stopped_by_no_grad, "stops one"),
}


def by_hand(made: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Density and gradient of every row, from the World itself."""
    values, slopes = [], []
    for row in rows:
        leaf = row.clone().requires_grad_()
        with model_context(F64):
            value = made.density(leaf)
        values.append(value.detach())
        slopes.append(torch.autograd.grad(value, leaf)[0])
    return torch.stack(values), torch.stack(slopes)


def rows_of(made: Any, count: int = 4) -> Tensor:
    return made.layout.loc + 0.8 * torch.randn(count, made.layout.size, dtype=F64)


@pytest.mark.parametrize("name", FLAT)
def test_flat_equals_plain(engine: Callable[..., Any], name: str) -> None:
    made = engine(FLAT[name])
    assert made.joint.mode == "flat", made.joint.reason
    assert made.joint.nodes > 0
    rows = rows_of(made)
    values, slopes = by_hand(made, rows)
    torch.testing.assert_close(made.joint.value(rows), values, rtol=1e-12, atol=1e-12)
    value, gradient = made.joint.value_and_gradient(rows)
    torch.testing.assert_close(value, values, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, slopes, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", LOOPS)
def test_what_cannot_be_traced_loops_and_says_once_why(
    engine: Callable[..., Any], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    likelihood, words = LOOPS[name]
    with caplog.at_level(logging.WARNING):
        made = engine(lambda: model_of(normals, likelihood, torch.tensor(0.3)))
    assert made.joint.mode == "loop"
    assert words in made.joint.reason
    assert len(caplog.records) == 1
    assert made.joint.reason in caplog.text
    rows = rows_of(made)
    caplog.clear()
    values, slopes = by_hand(made, rows)
    value, gradient = made.joint.value_and_gradient(rows)
    assert torch.equal(value, values)
    assert torch.equal(gradient, slopes)
    assert not caplog.records


def test_a_flat_model_s_python_is_not_called_again(engine: Callable[..., Any]) -> None:
    calls = []

    def counted(t: Tensor) -> Distribution:
        calls.append(1)
        return Normal(t, 1.0)

    made = engine(lambda: model_of(normals, counted, torch.zeros(2)))
    before = len(calls)
    made.joint.value_and_gradient(rows_of(made, 100))
    assert len(calls) == before


def correlated(t: Tensor) -> Distribution:
    """The factor's own numbers are used, so that what LAPACK leaves behind would pass for an answer."""
    one = torch.ones(())
    factor = torch.linalg.cholesky(torch.stack((torch.stack((one, t[0])), torch.stack((t[0], one)))))
    return Normal((factor @ torch.ones(2)).sum(), 1.0)


@pytest.mark.parametrize("mode", ["flat", "loop"])
def test_a_failed_cholesky_is_nan_for_its_own_row(engine: Callable[..., Any], mode: str) -> None:
    def looping(t: Tensor) -> Distribution:
        return correlated(t if t[1] > 0 else 1.0 * t)

    made = engine(lambda: model_of(normals, correlated if mode == "flat" else looping, torch.tensor(0.3)))
    assert made.joint.mode == mode
    rows = torch.tensor([[0.5, 0.1], [1.5, 0.2], [-0.3, 0.1]], dtype=F64)
    value, gradient = made.joint.value_and_gradient(rows)
    assert value.isnan().tolist() == [False, True, False]
    assert bool(gradient[[0, 2]].isfinite().all())
    values, slopes = by_hand(made, rows[[0, 2]])
    torch.testing.assert_close(value[[0, 2]], values, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient[[0, 2]], slopes, rtol=1e-12, atol=0)


def test_a_row_does_not_see_its_neighbours(engine: Callable[..., Any]) -> None:
    made = engine(FLAT["covariance"])
    rows = rows_of(made, 8)
    clean = made.joint.value_and_gradient(rows)
    rows[3] = torch.nan
    for before, after in zip(clean, made.joint.value_and_gradient(rows), strict=True):
        others = [0, 1, 2, 4, 5, 6, 7]
        assert torch.equal(after[others], before[others])


def test_params_of_the_model_are_coordinates_too(engine: Callable[..., Any]) -> None:
    eta = param(lambda: torch.tensor(0.5))
    x = random_variable(lambda: Normal(eta(), 1.0))
    made = engine(lambda: Model([x()], {}))
    value, gradient = made.joint.value_and_gradient(torch.tensor([[0.2, 1.5]], dtype=F64))
    assert float(value) == pytest.approx(float(Normal(1.5, 1.0).log_prob(torch.tensor(0.2))), rel=1e-6)
    assert gradient[0].tolist() == pytest.approx([1.3, -1.3])


def test_a_model_that_fails_at_its_start_is_named(engine: Callable[..., Any]) -> None:
    def broken(t: Tensor) -> Distribution:
        raise ZeroDivisionError("mine")

    x = random_variable(normals)
    calls = []

    def sometimes() -> Distribution:
        calls.append(1)
        return broken(x()) if len(calls) > 1 else Normal(x(), 1.0)

    y = random_variable(sometimes)
    with pytest.raises(ModelError, match="ZeroDivisionError: mine"):
        engine(lambda: Model([x()], {y(): torch.zeros(2)}))


def test_a_single_precision_model_is_traced_in_single_precision(engine: Callable[..., Any]) -> None:
    made = engine(FLAT["bernoulli_logits"], dtype=torch.float32)
    assert made.joint.mode == "flat"
    value, gradient = made.joint.value_and_gradient(rows_of(made).float())
    assert value.dtype == gradient.dtype == torch.float32
