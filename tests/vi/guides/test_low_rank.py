from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.nn.functional import softplus
from torch.utils._python_dispatch import TorchDispatchMode

from vi_dist.vi.guides.low_rank import LowRank
from vi_dist.vi.noise import NoiseSite, NoiseSpace

F64 = torch.float64


def guides(d: int, rank: int, rows: int = 2) -> tuple[LowRank, dict[str, Tensor]]:
    family = LowRank(NoiseSpace((NoiseSite("x", d),)), rank)
    generator = torch.Generator().manual_seed(0)
    first = family.initial(torch.zeros(d, dtype=F64))
    return family, {
        name: leaf + 0.5 * torch.randn(rows, *leaf.shape, generator=generator, dtype=F64)
        for name, leaf in first.items()
    }


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_density_is_that_of_the_dense_covariance(rank: int) -> None:
    family, leaves = guides(4, rank)
    z = torch.randn(2, 7, 4, dtype=F64, generator=torch.Generator().manual_seed(1))
    scale = softplus(leaves["raw_scale"])
    wide = scale[..., None] * leaves["factor"]
    covariance = wide @ wide.transpose(-1, -2) + torch.diag_embed(scale.square())
    for row in range(2):
        expected = MultivariateNormal(leaves["loc"][row], covariance[row]).log_prob(z[row])
        torch.testing.assert_close(family.log_prob(leaves, z)[row], expected, rtol=1e-10, atol=1e-10)


def test_draws_have_the_covariance() -> None:
    family, leaves = guides(3, 2, rows=1)
    noise = torch.randn(1, 200_000, 5, dtype=F64, generator=torch.Generator().manual_seed(2))
    z = family.draw(leaves, noise)[0]
    distribution = family.distribution({name: leaf[0] for name, leaf in leaves.items()})
    covariance = distribution.covariance_matrix  # type: ignore[attr-defined]
    scale = distribution.stddev
    assert bool(((torch.cov(z.T) - covariance) / torch.outer(scale, scale)).abs().max() < 0.01)


def test_no_matrix_of_d_by_d_is_ever_made() -> None:
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            made = function(*args, **(kwargs or {}))
            for one in made if isinstance(made, tuple | list) else (made,):
                largest = max(largest, one.numel() if isinstance(one, Tensor) else 0)
            return made

    d, samples = 300, 2
    family, leaves = guides(d, 2, rows=1)
    live = {name: leaf.requires_grad_() for name, leaf in leaves.items()}
    with Watch():
        z = family.draw(live, torch.ones(1, samples, d + 2, dtype=F64))
        family.log_prob(live, z).sum().backward()
    assert largest <= 3 * d


def test_full_rank_less_one_contains_every_gaussian(
    fit: Callable[..., Any], targets: SimpleNamespace
) -> None:
    assert fit(targets.correlated, "low_rank", rank=2, steps=800).evaluation.elbo > -0.01


def test_one_direction_is_enough_for_one_factor(fit: Callable[..., Any], targets: SimpleNamespace) -> None:
    found = fit(targets.one_factor, "low_rank", rank=1).evaluation
    independent = fit(targets.one_factor, "mean_field").evaluation
    assert found.elbo > -0.01 > independent.elbo + 0.3
