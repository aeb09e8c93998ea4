"""A fit: draws, files, worlds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Gamma, HalfNormal, Normal

from vi_dist import Experiment, Fit, Model, SpecError, functional, param, random_variable
from vi_dist.vi.saved_guide import draws

GUIDES: list[Any] = ["mean_field", "full_rank", "delta", {"low_rank": {"rank": 1}}]
DATA = {"y": [0.3, 1.7, 2.2, 0.9, 1.4, 2.8]}
# Means of 4,000 draws against means of draws of another source, in standard errors.
STANDARD_ERRORS = 5.0


@pytest.fixture(scope="module", params=GUIDES, ids=str)
def fit(request: pytest.FixtureRequest, experiment: Experiment) -> Fit:
    return experiment.fit(
        guide=request.param, steps=150, num_samples=4, learning_rate=0.05, samples=256, compile="never"
    )


def test_draws_are_in_the_models_own_space_functionals_included(fit: Fit) -> None:
    draw = fit.sample(50, seed=1)
    assert {name: tuple(values.shape) for name, values in draw.items()} == {
        "mu": (50, 2),
        "tau": (50,),
        "total": (50,),
    }
    assert (draw["tau"] > 0).all()
    torch.testing.assert_close(draw["total"], draw["mu"].sum(-1) * draw["tau"])


def test_draw_k_depends_on_the_seed_and_k_only(fit: Fit) -> None:
    many = fit.sample(40, seed=3)
    few = fit.sample(10, seed=3)
    assert all(many[name][:10].equal(few[name]) for name in many)
    if fit.configuration["guide"] != "delta":
        assert not fit.sample(10, seed=4)["mu"].equal(few["mu"])
    with pytest.raises(ValueError, match="at least 1"):
        fit.sample(0)


def test_a_fit_is_frozen(fit: Fit) -> None:
    with pytest.raises(AttributeError):
        fit.elbo = 0.0  # type: ignore[misc]


def test_what_is_saved_is_loaded(fit: Fit, toy_build: Callable[..., Model], tmp_path: Path) -> None:
    fit.save(tmp_path / "fit")
    loaded = Fit.load(tmp_path / "fit", toy_build, DATA)
    assert loaded == fit or (np.isnan(fit.elbo) and np.isnan(loaded.elbo))
    assert loaded.losses.equal(fit.losses)
    assert loaded.params.keys() == fit.params.keys()
    for name, values in fit.sample(7, seed=2).items():
        assert loaded.sample(7, seed=2)[name].equal(values)
        np.testing.assert_allclose(draws(tmp_path / "fit", 7, seed=2)[name], values, rtol=1e-6)
    json.loads((tmp_path / "fit" / "fit.json").read_text())
    assert not [file for file in (tmp_path / "fit").iterdir() if file.suffix in (".pkl", ".pt", ".bin")]


def test_the_world_draws_from_the_guide(fit: Fit) -> None:
    draw = fit.sample(4000)
    worlds = [fit.world() for _ in range(200)]
    mu, tau, total = (worlds[0].call(query) for query in fit.ready().model.queries)
    torch.testing.assert_close(total, mu.sum() * tau)
    for query in fit.ready().model.queries[:2]:
        values = torch.stack([world[query] for world in worlds])
        spread = draw[str(query)].std(0) / len(worlds) ** 0.5
        off = (values.mean(0) - draw[str(query)].mean(0)).abs()
        assert (off <= STANDARD_ERRORS * spread + 1e-6).all(), query
    assert worlds[0].log_prob().isfinite()
    worlds[0].get_guide_distribution(fit.ready().model.queries[0])


def test_a_model_that_is_another_is_refused(experiment: Experiment, tmp_path: Path) -> None:
    fit = experiment.fit(steps=2, num_samples=2, samples=16, compile="never")
    fit.save(tmp_path)

    def other(data: dict[str, Tensor]) -> Model:
        x = random_variable(lambda: Normal(0.0, 1.0))
        y = random_variable(lambda: Normal(x(), torch.ones(6)))
        return Model([x()], {y(): data["y"]})

    with pytest.raises(SpecError, match="the fit belongs to"):
        Fit.load(tmp_path, other, DATA)
    with pytest.raises(SpecError, match="no saved fit"):
        Fit.load(tmp_path / "nowhere", other, DATA)


def with_param(data: dict[str, Tensor]) -> Model:
    """A model whose prior mean is learned: empirical Bayes."""

    @param
    def centre() -> Tensor:
        return torch.tensor([0.5])

    @random_variable
    def mu() -> Normal:
        return Normal(centre()[0], 0.1)

    @random_variable
    def obs() -> Normal:
        return Normal(mu(), torch.ones(6))

    return Model([mu()], {obs(): data["y"]})


def test_the_models_own_params_are_kept_by_name(tmp_path: Path) -> None:
    experiment = Experiment(with_param, name="eb", data=DATA)
    fit = experiment.fit(steps=400, learning_rate=0.05, samples=256, compile="never")
    assert fit.params["model.centre"].item() == pytest.approx(np.mean(DATA["y"]), abs=0.1)
    assert fit.sample(100)["mu"].mean().item() == pytest.approx(np.mean(DATA["y"]), abs=0.1)
    world = fit.world()
    assert fit.params["model.centre"].equal(world.get_param(fit.ready().layout.params[0].variable))
    fit.save(tmp_path)
    assert Fit.load(tmp_path, with_param, DATA).sample(3)["mu"].equal(fit.sample(3)["mu"])
    with pytest.raises(SpecError, match="does not bound the evidence") as caught:
        experiment.fit(divergence="kl_forward")
    assert caught.value.key == "divergence"


def test_float64_is_float64_all_the_way(toy_build: Callable[..., Model]) -> None:
    fit = Experiment(toy_build, name="wide", data=DATA, dtype="float64").fit(
        steps=5, samples=16, compile="never"
    )
    assert {value.dtype for value in fit.params.values()} == {torch.float64}
    assert fit.sample(2)["mu"].dtype == fit.losses.dtype == torch.float64


def test_a_fit_that_diverges_is_a_result(experiment: Experiment) -> None:
    fit = experiment.fit(steps=100, learning_rate=1e30, samples=16, compile="never")
    assert fit.status == "diverged"
    assert fit.steps < 100 and len(fit.losses) == fit.steps


def test_bad_input_is_refused_with_its_key(experiment: Experiment, toy_build: Callable[..., Model]) -> None:
    with pytest.raises(SpecError, match="did you mean mean_field") as caught:
        experiment.fit(guide="mean_feild")
    assert caught.value.key == "guide" and "full_rank" in caught.value.allowed
    with pytest.raises(SpecError, match="is missing \\(NaN\\) at row 1"):
        Experiment(toy_build, name="nan", data={"y": [1.0, float("nan")]}).fit()
    with pytest.raises(SpecError, match="not a function"):
        Experiment(3, name="three")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="a list of data names files"):
        Experiment(toy_build, name="list", data=[1, 2, 3]).fit()


@pytest.mark.parametrize(
    ("arguments", "key", "message"),
    [
        ({"samples": 1}, "evaluation.samples", "at least 2"),
        ({"compile": "sometimes"}, "compile", "sometimes"),
        ({"estimator": "score", "num_samples": 1}, "num_samples", "takes the baseline of a sample from"),
        (
            {"divergence": "kl_forward", "estimator": "self_normalised", "num_samples": 1},
            "num_samples",
            "would train kl_reverse under the name of kl_forward",
        ),
        (
            {"initial_values": {"mu": [1.0, 2.0]}},
            "initial_values",
            "no guide starts at them, but at prior_median",
        ),
        ({"guide": {"nsf": {"groups": 1}}}, "guide", "groups is 1"),
    ],
)
def test_what_a_fit_cannot_be_is_refused(arguments: dict[str, Any], key: str, message: str) -> None:
    def plane(data: dict[str, Tensor]) -> Model:
        @random_variable
        def mu() -> Normal:
            return Normal(torch.zeros(2), 1.0)

        return Model([mu()], {})

    with pytest.raises(SpecError, match=message) as caught:
        Experiment(plane, name="refused", data=DATA).fit(steps=5, **arguments)
    assert caught.value.key == key


def test_auto_takes_the_literal_gradient_where_a_step_has_one_sample(experiment: Experiment) -> None:
    given = {"divergence": "kl_forward", "steps": 5, "samples": 16, "compile": "never"}
    picked = [experiment.fit(num_samples=n, **given).configuration["estimator"] for n in (1, 2)]
    assert picked == ["stl", "self_normalised"]


def test_a_model_of_discrete_latents_alone_is_refused_before_anything_is_fitted() -> None:
    def discrete(data: dict[str, Tensor]) -> Model:
        @random_variable
        def k() -> Bernoulli:
            return Bernoulli(0.3)

        y = random_variable(lambda: Normal(k(), torch.ones(6)))
        return Model([k()], {y(): data["y"]})

    with pytest.raises(SpecError, match="all of this model's are discrete"):
        Experiment(discrete, name="discrete", data=DATA).fit()


def test_data_and_functionals_of_several_kinds(tmp_path: Path) -> None:
    """No data at all, indexed variables, a functional with a shape."""

    def build() -> Model:
        @random_variable
        def rate(i: int) -> Gamma:
            return Gamma(2.0, 1.0)

        @random_variable
        def scale() -> HalfNormal:
            return HalfNormal(torch.ones(2))

        @functional
        def both(k: float) -> Tensor:
            return torch.stack([rate(0), rate(1)]) * scale() * k

        y = random_variable(lambda: Normal(both(1.0), 1.0))
        return Model([rate(0), both(2.0)], {y(): torch.tensor([1.0, 2.0])})

    fit = Experiment(build, name="none").fit(steps=20, samples=64, compile="never")
    draw = fit.sample(5)
    assert list(draw) == ["rate(0)", "both(2.0)"]
    assert draw["both(2.0)"].shape == (5, 2)
