"""k-hat is ArviZ's."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from vi_dist.evaluation.pareto import effective_sample_size, khat_threshold, pareto_khat, smoothed_weights

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what ArviZ will be one day
    import arviz


def arviz_khat(log_weights: NDArray[np.float64]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(arviz.psislw(log_weights)[1])


def weights(kind: str, scale: float, n: int) -> NDArray[np.float64]:
    random = np.random.default_rng(n)
    draws = {
        "normal": lambda: random.normal(size=n),
        "student": lambda: random.standard_t(3, size=n),
        "skewed": lambda: -random.exponential(size=n),
        "pareto": lambda: random.exponential(size=n),  # e^l is Pareto, of shape `scale` exactly
        "uniform": lambda: random.uniform(size=n),
    }
    return np.asarray(scale * draws[kind]())


@pytest.mark.parametrize("kind", ["normal", "student", "skewed", "pareto", "uniform"])
@pytest.mark.parametrize("scale", [1e-3, 0.3, 1.0, 5.0])
@pytest.mark.parametrize("n", [50, 1000, 4096])
def test_equals_arviz(kind: str, scale: float, n: int) -> None:
    log_weights = weights(kind, scale, n) - 500.0
    assert pareto_khat(log_weights) == pytest.approx(arviz_khat(log_weights), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("spread", [300.0, 2000.0])
def test_weights_that_underflow(spread: float) -> None:
    log_weights = -spread * np.random.default_rng(0).uniform(size=1000)
    assert pareto_khat(log_weights) == pytest.approx(arviz_khat(log_weights), rel=1e-9)


def test_equal_weights_in_the_tail() -> None:
    log_weights = np.round(np.random.default_rng(1).normal(size=1000), 1)
    assert pareto_khat(log_weights) == pytest.approx(arviz_khat(log_weights), rel=1e-9)


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_a_pareto_tail_has_its_own_shape(shape: float) -> None:
    """Up to the prior's pull towards 1/2 and the estimate's standard error, (1 + k) / sqrt(tail)."""
    n = 100_000
    tail = 3 * math.sqrt(n)
    found = pareto_khat(weights("pareto", shape, n))
    assert abs(found - shape) < 4 * (1 + shape) / math.sqrt(tail)


def test_constant_weights_are_exact() -> None:
    assert pareto_khat(np.full(100, -531.25)) == -math.inf
    jitter = 1e-13 * np.random.default_rng(0).normal(size=100)
    assert pareto_khat(-531.25 + jitter) == -math.inf


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_not_finite_spoils_it(bad: float) -> None:
    log_weights = np.random.default_rng(0).normal(size=100)
    log_weights[3] = bad
    assert math.isnan(pareto_khat(log_weights))


def test_too_few_weights_in_the_tail() -> None:
    assert pareto_khat(np.array([0.0, 1.0, 2.0, 0.5])) == math.inf


def test_threshold() -> None:
    assert khat_threshold(4096) == pytest.approx(0.7)
    assert khat_threshold(100) == pytest.approx(0.5)
    assert khat_threshold(1000) == pytest.approx(1 - 1 / 3)


@pytest.mark.parametrize("kind", ["normal", "student", "skewed", "pareto", "uniform"])
@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("n", [50, 1000])
def test_smoothed_weights_are_arviz_s(kind: str, scale: float, n: int) -> None:
    log_weights = weights(kind, scale, n) - 500.0
    kept = log_weights.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.exp(np.asarray(arviz.psislw(log_weights.copy())[0]))
    np.testing.assert_allclose(smoothed_weights(log_weights), expected, rtol=1e-9)
    np.testing.assert_array_equal(log_weights, kept)


def test_smoothed_weights_of_an_exact_guide_are_equal() -> None:
    np.testing.assert_array_equal(smoothed_weights(np.full(10, -3.0)), np.full(10, 0.1))


def test_the_effective_sample_size_is_one_over_the_sum_of_squares_of_smoothed_weights() -> None:
    rng = np.random.default_rng(0)
    log_weights = rng.normal(0.0, 0.5, 20_000)
    # Of log-normal weights it is N exp(-variance); its own noise is about one in the root of N.
    assert effective_sample_size(log_weights) / 20_000 == pytest.approx(math.exp(-0.25), abs=0.02)
    assert effective_sample_size(np.full(50, -3.0)) == pytest.approx(50.0)
    assert effective_sample_size(np.array([0.0] + [-80.0] * 99)) == pytest.approx(1.0)
    assert math.isnan(effective_sample_size(np.array([0.0, math.nan])))
    assert math.isnan(effective_sample_size(np.array([0.0, -math.inf])))


def test_a_tail_of_hundreds_of_nats_does_not_overflow() -> None:
    log_weights = np.linspace(-7000.0, 0.0, 1024)  # as of a guide that has gone far astray
    assert smoothed_weights(log_weights).sum() == pytest.approx(1)
    assert 1 <= effective_sample_size(log_weights) < 1024
