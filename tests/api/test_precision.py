"""Models whose numbers float32 does not hold are refused in it, with the cure; all others pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, HalfNormal, MultivariateNormal, Normal

from vi_dist import Experiment, Model, functional, random_variable
from vi_dist.api.checks import check
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.setup import Setup
from vi_dist.errors import ModelError

Data = dict[str, Any]
RANDOM = np.random.default_rng(0)
ROWS = 200
UNIT = RANDOM.standard_normal(ROWS)


def mean_and_scale(center: float, spread: float) -> Callable[[dict[str, Tensor]], Model]:
    """y ~ Normal(mu, sigma), mu ~ Normal(center, 10 spread), sigma ~ HalfNormal(spread)."""

    def build(data: dict[str, Tensor]) -> Model:
        @random_variable
        def mu() -> Distribution:
            return Normal(torch.tensor(center), 10 * spread)

        @random_variable
        def sigma() -> Distribution:
            return HalfNormal(torch.tensor(spread))

        @random_variable
        def y() -> Distribution:
            return Normal(mu(), sigma()).expand(data["y"].shape)

        return Model([mu(), sigma()], {y(): data["y"]})

    return build


def line(scaled: Callable[[Tensor], Tensor] = lambda x: x) -> Callable[[dict[str, Tensor]], Model]:
    """y ~ Normal(a + b f(x), 1)."""

    def build(data: dict[str, Tensor]) -> Model:
        x = scaled(data["x"].to(torch.get_default_dtype()))

        @random_variable
        def a() -> Distribution:
            return Normal(torch.tensor(0.0), 10.0)

        @random_variable
        def b() -> Distribution:
            return Normal(torch.tensor(0.0), 10.0)

        @random_variable
        def y() -> Distribution:
            return Normal(a() + b() * x, 1.0)

        return Model([a(), b()], {y(): data["y"]})

    return build


def standardised(x: Tensor) -> Tensor:
    return (x - x.mean()) / x.std()


def checked(build: Callable[..., Model], data: Data, dtype: str = "float32") -> None:
    arrays = {name: np.asarray(column) for name, column in data.items()}
    check(Setup(BuildSource(function=build), arrays, 64), dtype)


@pytest.mark.parametrize(
    ("center", "spread"),
    [(1e8, 1.0), (-1e8, 3.0), (1e7, 0.1), (3e6, 1.0), (1.7e9, 60.0), (1e15, 1e6), (1e3, 1e-4)],
)
@pytest.mark.parametrize("prior_knows", [True, False])
def test_data_that_lose_their_digits_are_refused_and_pass_in_float64(
    center: float, spread: float, prior_knows: bool
) -> None:
    build = mean_and_scale(center if prior_knows else 0.0, spread if prior_knows else abs(center))
    data = {"y": center + spread * UNIT}
    checked(build, data, "float64")
    with pytest.raises(ModelError, match=r"write dtype: float64, or subtract .* from column y") as refused:
        checked(build, data)
    assert "where float32 numbers are" in str(refused.value)


def test_the_same_holds_of_what_the_model_closes_over() -> None:
    seen = torch.as_tensor(1e8 + UNIT)

    def build(data: dict[str, Tensor]) -> Model:
        return mean_and_scale(1e8, 1.0)({"y": seen.to(torch.get_default_dtype())})

    with pytest.raises(ModelError, match=r"write dtype: float64, or subtract 1e\+08 from the observed y"):
        checked(build, {"other": UNIT})


def test_a_predictor_that_loses_its_digits_is_refused() -> None:
    with pytest.raises(ModelError, match="column x varies by 0.961 around 100000000"):
        checked(line(), {"x": 1e8 + UNIT, "y": UNIT})
    with pytest.raises(ModelError, match="column x"):
        checked(line(standardised), {"x": 1e8 + UNIT, "y": UNIT})


def test_a_prior_far_out_is_refused_by_its_latent_s_name() -> None:
    def build(data: dict[str, Tensor]) -> Model:
        @random_variable
        def far() -> Distribution:
            return Normal(torch.tensor(1e8), 1.0)

        @random_variable
        def y() -> Distribution:
            return Normal(far() - 1e8, 1.0).expand(data["y"].shape)

        return Model([far()], {y(): data["y"]})

    with pytest.raises(ModelError, match=r"far is about 100000000.* write dtype: float64"):
        checked(build, {"y": UNIT})


def test_what_overflows_in_float32_alone_is_refused() -> None:
    def build(data: dict[str, Tensor]) -> Model:
        @random_variable
        def b() -> Distribution:
            return Normal(torch.tensor(0.0), 1.0)

        @functional
        def scale() -> Tensor:
            return torch.exp(b() + 50.0)

        @random_variable
        def y() -> Distribution:
            return Normal(0.0, scale() ** 2).expand(data["y"].shape)

        return Model([b()], {y(): data["y"]})

    checked(build, {"y": UNIT}, "float64")
    with pytest.raises(
        ModelError,
        match=r"the gradient in b has no right digit where guides start in float32; write dtype: float64",
    ):
        checked(build, {"y": UNIT})


def levels(count: int, sd: float) -> Callable[[dict[str, Tensor]], Model]:
    """Levels of `count` groups around a common one, which starts far from them."""

    def build(data: dict[str, Tensor]) -> Model:
        group, seen = data["group"], data["y"]

        @random_variable
        def common() -> Distribution:
            return Normal(torch.tensor(0.0), 1e7)

        @random_variable
        def level() -> Distribution:
            return Normal(torch.zeros(count), sd)

        @random_variable
        def y() -> Distribution:
            return Normal(common() + level()[group], sd)

        return Model([common(), level()], {y(): seen})

    return build


@pytest.mark.parametrize("count", [10, 600])
def test_many_coordinates_are_judged_too(count: int) -> None:
    """Beyond 500 no mode is looked for: what is observed decides."""
    group = np.arange(1200) % count
    noise = np.random.default_rng(1).standard_normal(1200)
    with pytest.raises(ModelError, match=r"write dtype: float64, or subtract 3e\+06 from column y"):
        checked(levels(count, 1.0), {"group": group, "y": 3e6 + noise})
    checked(levels(count, 1.0), {"group": group, "y": 300 + noise})
    checked(levels(count, 1e5), {"group": group, "y": 3e6 + 1e5 * noise})


def wide(count: int) -> np.ndarray[Any, Any]:
    return RANDOM.standard_normal(count)


PASS: dict[str, tuple[Callable[..., Model], Data]] = {
    "year": (line(lambda x: (x - 1945.0) / 40.0), {"x": np.linspace(1880, 2010, ROWS), "y": UNIT}),
    "whole years": (line(standardised), {"x": np.arange(1880, 1880 + ROWS), "y": UNIT}),
    "raw years": (line(), {"x": np.linspace(1880.0, 2010.0, ROWS), "y": UNIT}),
    "cents": (mean_and_scale(1e6, 3e5), {"y": np.round(1e6 + 3e5 * UNIT)}),
    "ids that nothing reads": (
        mean_and_scale(0.0, 1.0),
        {"y": UNIT, "id": 100_000_000 + np.arange(ROWS), "stamp": 1.7e9 + UNIT},
    ),
    "a column at 1e5": (mean_and_scale(1e5, 1.0), {"y": 1e5 + UNIT}),
    "seconds of a year": (line(standardised), {"x": 1.7e9 + 9e6 * UNIT, "y": UNIT}),
    "a million rows": (mean_and_scale(0.0, 1.0), {"y": wide(1_000_000)}),
    "a million rows around 20": (mean_and_scale(20.0, 5.0), {"y": 20 + 5 * wide(1_000_000)}),
    "tiny numbers": (mean_and_scale(0.0, 1e-6), {"y": 1e-6 * UNIT}),
    "a constant column": (line(), {"x": np.full(ROWS, 3.7), "y": UNIT}),
    "one row": (mean_and_scale(0.0, 1.0), {"y": np.array([0.3])}),
}


@pytest.mark.parametrize("name", PASS)
def test_ordinary_data_pass(name: str) -> None:
    checked(*PASS[name])


def test_classes_and_correlated_latents_pass() -> None:
    x = np.column_stack([np.ones(ROWS), UNIT, UNIT + 1e-2 * RANDOM.standard_normal(ROWS)])

    def build(data: dict[str, Tensor]) -> Model:
        scale = torch.tensor([[1.0, 0.0, 0.0], [0.99, 0.1, 0.0], [0.99, 0.05, 0.05]])

        @random_variable
        def b() -> Distribution:
            return MultivariateNormal(torch.zeros(3), scale_tril=scale)

        @random_variable
        def y() -> Distribution:
            return Bernoulli(logits=data["x"] @ b())

        return Model([b()], {y(): data["y"]})

    checked(build, {"x": x, "y": (RANDOM.random(ROWS) < 0.5).astype(float)})


def test_in_float64_such_data_are_fitted_right() -> None:
    """Mean and sd of mu given sigma's posterior, against the exact ones of a flat prior."""
    y = 1e8 + UNIT
    found = Experiment(mean_and_scale(1e8, 1.0), name="far", data={"y": y}, dtype="float64").fit(
        guide={"full_rank": {"whiten": True}},
        steps=300,
        learning_rate=0.02,
        schedule="cosine",
        compile="never",
        samples=512,
    )
    draws = found.sample(4000)["mu"].double()
    assert float(draws.mean()) - 1e8 == pytest.approx(UNIT.mean(), abs=0.02)
    assert float(draws.std()) == pytest.approx(UNIT.std() / ROWS**0.5, rel=0.15)
