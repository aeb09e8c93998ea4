"""Draws with importance weights: the draws of `Fit.sample`, and moments that the guide itself has not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from vi_dist import Experiment, Fit, Model, random_variable
from vi_dist.cluster.prepared import PreparedModel
from vi_dist.evaluation.importance import weighted_rows
from vi_dist.evaluation.moments import moments
from vi_dist.evaluation.pareto import pareto_khat, smoothed_weights

N = 4000
# theta ~ Normal(0, 2), seen four times with standard deviation 1.5.
PRECISION = 1 / 4 + 4 / 2.25
MEAN, SD = (1.0 + 2.5 + 0.2 + 1.7) / 2.25 / PRECISION, PRECISION**-0.5
SIGMAS = 4.5


def build(data: dict[str, Tensor]) -> Model:
    @random_variable
    def theta() -> Distribution:
        return Normal(data["y"].new_tensor(0.0), 2.0)

    @random_variable
    def seen() -> Distribution:
        return Normal(theta().expand(4), 1.5)

    return Model([theta()], {seen(): data["y"]})


@pytest.fixture(scope="module")
def short() -> Fit:
    """A fit of so few steps that its mean and its sd are off, but within reach of importance weights."""
    experiment = Experiment(build, name="normal", data={"y": [1.0, 2.5, 0.2, 1.7]})
    return experiment.fit(learning_rate=0.05, steps=40, compile="never")


def weighted(fit: Fit) -> tuple[dict[str, np.ndarray], np.ndarray]:
    precise = PreparedModel(fit.ready().setup, torch.float64)
    rows, log_weights = weighted_rows(
        precise.joint().value, fit.guide(), fit.leaves(), fit.model_params(), N, seed=3
    )
    return {name: values.numpy() for name, values in precise.constrain(rows).items()}, log_weights.numpy()


def test_the_draws_are_those_of_sample(short: Fit) -> None:
    draws, _ = weighted(short)
    np.testing.assert_allclose(draws["theta"], short.sample(N, seed=3)["theta"].numpy(), rtol=1e-3, atol=1e-4)


def test_weights_bring_the_posterior_s_moments_and_evidence(short: Fit) -> None:
    draws, log_weights = weighted(short)
    assert pareto_khat(log_weights) < 0.7
    weights = smoothed_weights(log_weights)
    mean, sd = moments(draws, weights)["theta"]
    error = 1 / math.sqrt(1 / float((weights**2).sum()))
    assert abs(mean - MEAN) / SD < SIGMAS * error
    assert abs(sd / SD - 1) < SIGMAS * error
    assert abs(moments(draws)["theta"][0] - MEAN) / SD > 2 * abs(mean - MEAN) / SD


def test_draws_whose_density_is_not_known_have_no_weights() -> None:
    """A mixture whose factors no solve can invert: weights would be made up."""

    def three(data: dict[str, Tensor]) -> Model:
        @random_variable
        def theta() -> Distribution:
            return Normal(torch.zeros(3), 2.0)

        return Model([theta()], {})

    fit = Experiment(three, name="three").fit(
        {"mixture": {"components": 2, "full_rank": True}}, steps=2, compile="never", samples=64
    )
    wild = {name: leaf.clone() for name, leaf in fit.leaves().items()}
    wild["lower"][:] = torch.tensor([[1e9, 0.0, 1e9], [1e9, 0.0, -1e9]])
    joint = PreparedModel(fit.ready().setup, torch.float64).joint().value
    with pytest.raises(ValueError, match="unknown by more than a nat, so they have no importance weights"):
        weighted_rows(joint, fit.guide(), wild, fit.model_params(), 100)


def test_equal_weights_are_no_weights() -> None:
    values = {"x": np.random.default_rng(0).normal(size=(50, 2))}
    plain, equal = moments(values), moments(values, np.full(50, 1 / 50))
    assert plain.keys() == {"x[0]", "x[1]"}
    for name in plain:
        assert equal[name] == pytest.approx(plain[name], rel=1e-12)
