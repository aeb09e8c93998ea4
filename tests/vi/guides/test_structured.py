from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Normal
from torch.nn.functional import softplus

from vi_dist.errors import ModelError
from vi_dist.model.decorators import random_variable
from vi_dist.model.model import Model
from vi_dist.vi.guides.full_rank import FullRank
from vi_dist.vi.guides.structured import Structured
from vi_dist.vi.noise import NoiseSite, NoiseSpace

F64 = torch.float64


def space(**sizes: int) -> NoiseSpace:
    return NoiseSpace(tuple(NoiseSite(name, size) for name, size in sizes.items()))


def count(family: Structured | FullRank) -> int:
    loc = torch.zeros(family.size, dtype=F64)
    return sum(leaf.numel() for leaf in family.initial(loc).values())


def scattered(family: Structured) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = family.initial(torch.zeros(family.size, dtype=F64))
    return {k: v + 0.5 * torch.randn(1, *v.shape, generator=generator, dtype=F64) for k, v in first.items()}


def test_draws_are_the_formula_of_the_docstring() -> None:
    """Block by block: own noise through a unit triangle, earlier noise through `rank` messages."""
    family = Structured(space(a=2, b=4, c=3), rank=1)
    leaves = scattered(family)
    e = torch.randn(1, 5, 9, dtype=F64, generator=torch.Generator().manual_seed(1))
    z = family.draw(leaves, e)[0]
    scale, loc = softplus(leaves["raw_scale"])[0], leaves["loc"][0]
    lower, send, receive = leaves["lower"][0].tolist(), leaves["send"][0], leaves["receive"][0]
    message = torch.zeros(5, 1, dtype=F64)
    for start, stop in ((0, 2), (2, 6), (6, 9)):
        own = e[0, :, start:stop]
        triangle = torch.eye(stop - start, dtype=F64)
        for i in range(stop - start):
            for j in range(i):
                triangle[i, j] = lower.pop(0)
        mean = message @ receive[start - 2 : stop - 2].T if start else 0.0
        expected = loc[start:stop] + scale[start:stop] * (own @ triangle.T + mean)
        torch.testing.assert_close(z[:, start:stop], expected)
        if stop < 9:
            message = message + own @ send[start:stop]
    assert not lower


@pytest.mark.parametrize("blocks", ["", "c | a + d", "a+b|c+d"])
def test_density_is_the_gaussian_of_the_draws(blocks: str) -> None:
    family = Structured(space(a=2, b=4, c=3, d=2), rank=1, blocks=blocks)
    leaves = scattered(family)
    single = {k: v[0] for k, v in leaves.items()}
    jacobian = torch.func.jacrev(lambda e: family.draw(leaves, e[None, None])[0, 0])(
        torch.zeros(11, dtype=F64)
    )
    distribution = family.distribution(single)
    torch.testing.assert_close(distribution.covariance_matrix, jacobian @ jacobian.T)  # type: ignore[attr-defined]
    z = torch.randn(1, 6, 11, dtype=F64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(family.log_prob(leaves, z)[0], distribution.log_prob(z[0]))


@pytest.mark.parametrize(
    ("sizes", "rank"),
    [
        ({"mu": 1, "tau": 1, "theta": 8}, 1),
        ({"a": 1, "b": 1, "c": 1, "alpha": 85}, 2),
        ({f"x({i})": 3 for i in range(10)}, 4),
    ],
)
def test_fewer_leaves_than_full_rank(sizes: dict[str, int], rank: int) -> None:
    family = Structured(space(**sizes), rank)
    assert family.blocks == len(sizes)
    assert count(family) < count(FullRank(space(**sizes)))


@pytest.mark.parametrize("sizes", [{"a": 1, "b": 1}, {"a": 1, "b": 30}, {"a": 5}])
def test_blocks_are_merged_where_messages_would_save_nothing(sizes: dict[str, int]) -> None:
    family, full = Structured(space(**sizes), 1), FullRank(space(**sizes))
    assert family.blocks == 1
    assert count(family) == count(full)
    leaves = scattered(family)
    z = torch.ones(1, 2, family.size, dtype=F64)
    torch.testing.assert_close(family.log_prob(leaves, z), full.log_prob(leaves, z))


def test_it_starts_as_a_mean_field_guide_whose_messages_can_grow() -> None:
    family = Structured(space(a=2, b=4, c=3), rank=1)
    leaves = family.initial(torch.zeros(9, dtype=F64))
    covariance = family.distribution(leaves).covariance_matrix  # type: ignore[attr-defined]
    torch.testing.assert_close(covariance, torch.diag(covariance.diagonal()))
    live = {k: v[None].requires_grad_() for k, v in leaves.items()}
    e = torch.randn(1, 4, 9, dtype=F64, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(family.draw(live, e).square().sum(), live["receive"])
    assert bool((gradient != 0).all())


@pytest.mark.parametrize(
    ("blocks", "message"),
    [("mu + sigma", "'sigma', which is no latent"), ("mu | theta + mu", "mu is in two blocks")],
)
def test_wrong_blocks_are_refused_by_name(blocks: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        Structured(space(mu=1, theta=3), blocks=blocks)
    if "sigma" in blocks:
        assert caught.value.allowed == ("mu", "theta")


def chain() -> Model:
    """Three vectors, each around the mean of the one before: dependence of rank one between neighbours."""

    @random_variable
    def first() -> Distribution:
        return Normal(torch.zeros(3, dtype=F64), 1.0)

    @random_variable
    def second() -> Distribution:
        return Normal(first().mean().expand(4), 0.5)

    @random_variable
    def third() -> Distribution:
        return Normal(first().sum().expand(3), 0.7)

    return Model([first(), second(), third()], {})


def test_messages_carry_the_dependence_between_blocks(fit: Callable[..., Any]) -> None:
    """One message is enough for a dependence of rank one, and mean-field lacks it."""
    assert fit(chain, "structured", rank=1).evaluation.elbo > -0.01
    assert fit(chain, "mean_field").evaluation.elbo < -1.0
