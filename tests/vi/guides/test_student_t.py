from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy import stats
from torch.nn.functional import softplus

from vi_dist.vi.guides.family import Family
from vi_dist.vi.guides.student_t import bailey, student_t
from vi_dist.vi.noise import NoiseSite, NoiseSpace

F64 = torch.float64
SAMPLES = 20_000
# Kolmogorov and Smirnov's distance at p = 0.001.
DISTANCE = 1.95 / math.sqrt(SAMPLES)


def normals(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("df", [1.0, 2.5, 5.0, 300.0])
def test_bailey_s_transform_is_exact(df: float) -> None:
    drawn = bailey(normals(SAMPLES), normals(SAMPLES, seed=1), df)
    assert stats.kstest(drawn.numpy(), stats.t(df).cdf).statistic < DISTANCE


def test_bailey_s_transform_has_a_limit_at_zero() -> None:
    tiny = torch.tensor([0.0, 1e-8, 1e-4], dtype=F64)
    torch.testing.assert_close(bailey(tiny, torch.zeros(3, dtype=F64), 5.0), tiny, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("df", [1.5, 4.0])
def test_full_rank_form_is_the_multivariate_t(df: float) -> None:
    """The density is scipy's; squared lengths of standard draws are d F(d, df); each direction is a univariate t."""
    family = student_t(NoiseSpace((NoiseSite("x", 3),)), df, full_rank=True)
    first = family.initial(torch.zeros(3, dtype=F64), scale=0.8)
    leaves = {k: v[None] + 0.3 * normals(1, *v.shape, seed=4) for k, v in first.items()}
    scale = softplus(leaves["raw_scale"][0])
    unit = torch.eye(3, dtype=F64)
    unit[torch.tril_indices(3, 3, -1).unbind()] = leaves["lower"][0]
    factor = scale[:, None] * unit
    z = family.draw(leaves, normals(1, SAMPLES, 6, seed=2))
    expected = stats.multivariate_t(leaves["loc"][0].numpy(), (factor @ factor.T).numpy(), df=df)
    torch.testing.assert_close(
        family.log_prob(leaves, z[:, :50])[0], torch.as_tensor(expected.logpdf(z[0, :50].numpy()))
    )
    standard = torch.linalg.solve_triangular(factor, (z[0] - leaves["loc"][0]).T, upper=False)
    lengths = standard.square().sum(0) / 3
    assert stats.kstest(lengths.numpy(), stats.f(3, df).cdf).statistic < DISTANCE
    for direction in torch.nn.functional.normalize(normals(4, 3, seed=3)):
        assert stats.kstest((direction @ standard).numpy(), stats.t(df).cdf).statistic < DISTANCE


@pytest.mark.parametrize("full_rank", [False, True])
@pytest.mark.parametrize("df", [1.0, 2.5, 8.0])
def test_it_starts_with_the_standard_deviation_asked_for(full_rank: bool, df: float) -> None:
    family = student_t(NoiseSpace((NoiseSite("x", 2),)), df, full_rank)
    leaves = family.initial(torch.zeros(2, dtype=F64), scale=0.7)
    scale = softplus(leaves["raw_scale"])
    expected = 0.7 if df <= 2 else 0.7 * math.sqrt((df - 2) / df)
    torch.testing.assert_close(scale, torch.full((2,), expected, dtype=F64))


def test_a_student_t_posterior_is_met_exactly(fit: Callable[..., Any], targets: SimpleNamespace) -> None:
    found = fit(targets.heavy, "student_t", df=5.0, steps=500).evaluation
    gaussian = fit(targets.heavy, "mean_field", steps=500).evaluation
    assert found.elbo > -0.005
    assert gaussian.elbo < -0.02
    assert found.khat < 0.3 < gaussian.khat


def test_many_degrees_of_freedom_are_a_gaussian(fit: Callable[..., Any], targets: SimpleNamespace) -> None:
    assert fit(targets.correlated, "student_t", df=1e4, full_rank=True).evaluation.elbo > -0.01


def test_the_family_draws_from_torch_too() -> None:
    family: Family = student_t(NoiseSpace((NoiseSite("x", 2),)), 5.0, full_rank=True)
    distribution = family.distribution(family.initial(torch.zeros(2, dtype=F64), scale=1.0))
    torch.manual_seed(0)
    drawn = distribution.sample((SAMPLES,))[:, 1] / math.sqrt(3 / 5)
    assert stats.kstest(drawn.numpy(), stats.t(5.0).cdf).statistic < DISTANCE
