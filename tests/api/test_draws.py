"""Resampled draws, posterior predictive draws, and ArviZ's form of both."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import arviz as az
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, MultivariateNormal, Normal

from vi_dist import Experiment, Fit, Model, ModelError, random_variable
from vi_dist.api.winner_data import write_winner
from vi_dist.cluster.sharding import Sharding

CORRELATION = 0.6
Y = [1.0, 2.0, 0.5, 1.5]


def fitted(build: Callable[..., Model], data: object = None, **changes: Any) -> Fit:
    choices = {"steps": 5, "num_samples": 2, "samples": 64, "compile": "never", **changes}
    return Experiment(build, name="draws", data=data).fit(**choices)


def correlated(data: dict[str, Tensor]) -> Model:
    """A posterior known in full: normal, mean (1, -1), unit sds, correlation 0.6."""

    @random_variable
    def x() -> Distribution:
        covariance = torch.tensor([[1.0, CORRELATION], [CORRELATION, 1.0]])
        return MultivariateNormal(torch.tensor([1.0, -1.0]), covariance)

    return Model([x()], {})


def conjugate(data: dict[str, Tensor]) -> Model:
    """mu ~ N(0, 1), y | mu ~ N(mu, 1): with four of mean 1.25 the posterior is N(1, 1/5)."""
    y = data["y"]

    @random_variable
    def mu() -> Distribution:
        return Normal(0.0, 1.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(mu(), 1.0).expand(y.shape)

    return Model([mu()], {obs(): y})


def guided(build: Callable[..., Model], loc: list[float], sd: list[float], data: object = None) -> Fit:
    """A mean-field fit whose guide is set to these means and sds."""
    fit = fitted(build, data)
    assert fit.params.keys() == {"loc", "raw_scale"}
    return replace(fit, params={"loc": torch.tensor(loc), "raw_scale": torch.tensor(sd).expm1().log()})


@pytest.fixture(scope="module")
def wide() -> Fit:
    """A mean-field guide of the correlated normal, off in mean and too wide: weights have a bounded tail."""
    return guided(correlated, [0.7, -0.8], [1.4, 1.4])


@pytest.fixture(scope="module")
def exact() -> Fit:
    return guided(conjugate, [1.0], [0.2**0.5], {"y": Y})


def test_resampled_draws_have_the_posteriors_moments_and_plain_ones_have_not(wide: Fit) -> None:
    plain, better = (wide.sample(8000, seed=1, resample=again)["x"] for again in (False, True))
    mean, covariance = torch.tensor([1.0, -1.0]), torch.tensor([[1.0, CORRELATION], [CORRELATION, 1.0]])
    # Five standard errors of 8,000 draws are 0.06; the weights' effective sample is larger than that of n.
    assert (plain.mean(0) - mean).abs().max() > 0.15
    assert (better.mean(0) - mean).abs().max() < 0.06
    assert (plain.T.cov() - covariance).abs().min() > 0.5
    assert (better.T.cov() - covariance).abs().max() < 0.09


def test_resampled_draws_depend_on_the_seed_alone_and_repeat(wide: Fit) -> None:
    before = torch.get_rng_state()
    first, again = (wide.sample(300, seed=5, resample=True)["x"] for _ in range(2))
    assert first.equal(again)
    assert first.dtype == wide.sample(1)["x"].dtype
    assert not first.equal(wide.sample(300, seed=6, resample=True)["x"])
    assert torch.get_rng_state().equal(before)


def test_resampled_draws_are_draws_of_the_guide(wide: Fit) -> None:
    everything = {tuple(row) for row in wide.sample(4096, seed=2)["x"].double().round(decimals=4).tolist()}
    chosen = {
        tuple(row) for row in wide.sample(50, 2, resample=True)["x"].double().round(decimals=4).tolist()
    }
    assert len(chosen - everything) <= 2, "the same draws, in another precision"


def test_a_guide_that_weights_cannot_repair_is_warned_about() -> None:
    narrow = guided(correlated, [1.0, -1.0], [0.3, 0.3])
    with pytest.warns(RuntimeWarning, match="above 0.70.*richer guide") as caught:
        narrow.sample(100, resample=True)
    assert caught[0].filename == __file__


def test_a_guide_without_density_is_not_resampled() -> None:
    point = fitted(correlated, guide="delta")
    assert point.sample(3)["x"].shape == (3, 2)
    with pytest.raises(ValueError, match="delta has no density"):
        point.sample(3, resample=True)


def test_predictions_of_a_conjugate_normal(exact: Fit) -> None:
    before = torch.get_rng_state()
    drawn = exact.predict(4000, seed=3)
    assert drawn.keys() == {"obs"}
    assert drawn["obs"].shape == (4000, 4)
    # A new y is N(1, 1 + 1/5), and two of one replication share mu: their covariance is 1/5. Five standard errors.
    assert (drawn["obs"].mean(0) - 1.0).abs().max() < 5 * (1.2 / 4000) ** 0.5
    covariance = drawn["obs"].T.cov()
    assert (covariance - (torch.eye(4) + 0.2)).abs().max() < 5 * 1.2 * (2 / 4000) ** 0.5
    assert torch.get_rng_state().equal(before)


def test_prediction_k_depends_on_the_seed_and_k_only(exact: Fit) -> None:
    many, few = exact.predict(30, seed=4)["obs"], exact.predict(10, seed=4)["obs"]
    assert many[:10].equal(few)
    assert not few.equal(exact.predict(10, seed=5)["obs"])
    assert not few[0].equal(few[1])


def test_predictions_of_resampled_draws(exact: Fit) -> None:
    off = guided(conjugate, [0.7], [0.6], {"y": Y})
    assert abs(float(off.predict(3000, seed=1)["obs"].mean()) - 0.7) < 0.07
    assert abs(float(off.predict(3000, seed=1, resample=True)["obs"].mean()) - 1.0) < 0.07


def test_replicated_observations_are_passed_on() -> None:
    def build(data: dict[str, Tensor]) -> Model:
        @random_variable
        def p() -> Distribution:
            return Normal(0.0, 1.0)

        @random_variable
        def first() -> Distribution:
            return Bernoulli(logits=p())  # repeated for three observations

        @random_variable
        def second() -> Distribution:
            return Normal(100.0 * first(), 0.01)

        return Model([p()], {first(): torch.ones(3), second(): torch.full((3,), 100.0)})

    drawn = fitted(build).predict(50)
    assert drawn["first"].shape == drawn["second"].shape == (50, 3)
    assert set(drawn["first"].unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn["second"], 100 * drawn["first"], atol=0.1, rtol=0)


def test_a_density_without_draws_cannot_be_predicted() -> None:
    class Penalty(Normal):
        def sample(self, *shape: Any) -> Tensor:
            return Distribution.sample(self, *shape)

        def rsample(self, *shape: Any) -> Tensor:
            return Distribution.rsample(self, *shape)

    def build(data: dict[str, Tensor]) -> Model:
        @random_variable
        def z() -> Distribution:
            return Normal(0.0, 1.0)

        @random_variable
        def penalty() -> Distribution:
            return Penalty(z(), 1.0)

        return Model([z()], {penalty(): torch.tensor(0.5)})

    with pytest.raises(ModelError, match="penalty cannot be predicted.*Penalty"):
        fitted(build).predict(2)


def test_a_fit_of_shards_is_sampled_but_not_predicted(exact: Fit) -> None:
    assert exact.prepared is not None
    setup = replace(exact.prepared.setup, shards=Sharding(2))
    sharded = replace(exact, prepared=type(exact.prepared)(setup, exact.prepared.dtype))
    assert sharded.sample(5)["mu"].equal(exact.sample(5)["mu"])
    for call in (
        lambda: sharded.sample(5, resample=True),
        lambda: sharded.predict(5),
        lambda: sharded.to_inference_data(5),
    ):
        with pytest.raises(ValueError, match="fit of 2 shards"):
            call()
    alone = replace(exact.prepared.setup, shards=Sharding(1))
    whole = replace(exact, prepared=type(exact.prepared)(alone, exact.prepared.dtype))
    assert whole.predict(5)["obs"].equal(exact.predict(5)["obs"])


def test_inference_data(exact: Fit, tmp_path: Path) -> None:
    data: Any = exact.to_inference_data(200, seed=2)
    assert data.groups() == ["posterior", "posterior_predictive", "observed_data"]
    assert dict(data.posterior.sizes) == {"chain": 1, "draw": 200}
    assert dict(data.posterior_predictive.sizes) == {"chain": 1, "draw": 200, "obs_dim_0": 4}
    assert data.observed_data["obs"].values.tolist() == Y
    assert data.posterior["mu"].values[0].tolist() == exact.sample(200, seed=2)["mu"].tolist()
    assert data.posterior_predictive["obs"].values[0].tolist() == exact.predict(200, seed=2)["obs"].tolist()
    attrs = data.posterior.attrs
    assert (attrs["elbo"], attrs["khat"], attrs["guide"]) == (exact.elbo, exact.khat, "mean_field")
    table: Any = az.summary(data, kind="stats")
    assert table.loc["mu", "mean"] == pytest.approx(1.0, abs=0.2)
    data.to_netcdf(str(tmp_path / "fit.nc"))
    again: Any = az.from_netcdf(str(tmp_path / "fit.nc"))
    assert again.posterior["mu"].equals(data.posterior["mu"])
    assert again.posterior.attrs["khat"] == exact.khat


def test_inference_data_of_a_model_without_observations(wide: Fit) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert wide.to_inference_data(50).groups() == ["posterior"]
        assert wide.predict(3) == {}


@pytest.mark.parametrize(("rows", "pause"), [(40_000, 0.0), (2, 0.03)], ids=["large", "slow"])
def test_a_sweep_does_not_wait_for_a_winner_that_is_large_or_slow_to_predict(
    rows: int, pause: float, tmp_path: Path
) -> None:
    def build(data: dict[str, Tensor]) -> Model:
        @random_variable
        def z() -> Distribution:
            return Normal(0.0, 1.0)

        @random_variable
        def obs() -> Distribution:
            time.sleep(pause)
            return Normal(z(), 1.0).expand((rows,))

        return Model([z()], {obs(): torch.zeros(rows)})

    reason = write_winner(fitted(build), tmp_path / "winner.nc")
    assert reason.startswith(f"500 predictions would be {500 * rows} numbers")
    assert not (tmp_path / "winner.nc").exists()
