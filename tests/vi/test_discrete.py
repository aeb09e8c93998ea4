"""Mixed and enumerated objectives against exact sums and quadrature."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal, Poisson

from vi_dist.errors import ModelError, SpecError
from vi_dist.model.decorators import param, random_variable
from vi_dist.vi.discrete import monte_carlo_approximate_enumerated, monte_carlo_approximate_mixed
from vi_dist.vi.divergences import Divergence, amari, kl_reverse, total_variation
from vi_dist.vi.monte_carlo import (
    monte_carlo_approximate,
    monte_carlo_approximate_reparam,
    monte_carlo_approximate_sf,
)
from vi_dist.vi.variational_infer import VariationalInfer

F64 = torch.float64
Y = torch.tensor(1.4, dtype=F64)
FIRST = torch.tensor([0.4, 0.3, 0.8, -0.2], dtype=F64)
BOTH = {"mixed": monte_carlo_approximate_mixed, "enumerated": monte_carlo_approximate_enumerated}


def t(value: float) -> Tensor:
    return torch.tensor(value, dtype=F64)


@random_variable
def coin() -> Distribution:
    return Bernoulli(t(0.3))


@random_variable
def mu() -> Distribution:
    return Normal(2 * coin(), 1.0)


@random_variable
def y() -> Distribution:
    return Normal(mu(), 1.0)


@param
def lam() -> Tensor:
    """logit of the coin, mean of mu, what the one adds to the other, log of the scale."""
    return FIRST.clone()


@random_variable
def q_coin() -> Distribution:
    return Bernoulli(logits=lam()[0])


@random_variable
def q_mu() -> Distribution:
    """Depends on the coin."""
    return Normal(lam()[1] + lam()[2] * q_coin(), lam()[3].exp())


@random_variable
def r_mu() -> Distribution:
    return Normal(lam()[1], lam()[3].exp())


@random_variable
def r_coin() -> Distribution:
    """Depends on mu."""
    return Bernoulli(logits=lam()[0] + lam()[2] * r_mu())


GUIDES: dict[str, dict[Any, Any]] = {
    "coin first": {coin(): q_coin(), mu(): q_mu()},
    "mu first": {mu(): r_mu(), coin(): r_coin()},
}


def exact(order: str, divergence: Divergence) -> tuple[Tensor, Tensor]:
    """Objective and gradient by a fine grid of mu's noise and the sum over the coin."""
    at = FIRST.clone().requires_grad_()
    e = torch.linspace(-9, 9, 4001, dtype=F64)
    weight = Normal(0.0, 1.0).log_prob(e).exp() * (e[1] - e[0])
    total = t(0.0)
    for k in (t(0.0), t(1.0)):
        if order == "coin first":
            mean = at[1] + at[2] * k
            m = mean + at[3].exp() * e
            log_r = Bernoulli(logits=at[0]).log_prob(k).expand(e.shape)
        else:
            mean = at[1]
            m = mean + at[3].exp() * e
            log_r = Bernoulli(logits=at[0] + at[2] * m).log_prob(k.expand(e.shape))
        log_q = Normal(mean, at[3].exp()).log_prob(m) + log_r
        l = (
            Bernoulli(t(0.3)).log_prob(k)
            + Normal(2 * k, 1.0).log_prob(m)
            + Normal(m, 1.0).log_prob(Y)
            - log_q
        )
        total = total + (weight * log_r.exp() * divergence(l)).sum()
    (gradient,) = torch.autograd.grad(total, at)
    return total.detach(), gradient


@pytest.mark.parametrize("order", GUIDES)
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("divergence", [kl_reverse, amari(0.5)], ids=["kl_reverse", "amari"])
def test_value_and_gradient_are_right_on_average(order: str, name: str, divergence: Divergence) -> None:
    params: dict[Any, Tensor] = {}
    found = []
    torch.manual_seed(0)
    for _ in range(250):
        loss = BOTH[name]({y(): Y}, 2, divergence, params, GUIDES[order])
        params[lam()].grad = None
        loss.backward()
        gradient = params[lam()].grad
        assert gradient is not None
        found.append(torch.cat((loss.detach()[None], gradient)))
    sample = torch.stack(found)
    value, slope = exact(order, divergence)
    off = (sample.mean(0) - torch.cat((value[None], slope))) / (sample.std(0) / math.sqrt(len(found)))
    assert off.abs().max() < 4


def test_without_other_guides_enumeration_is_exact() -> None:
    """A vector of coins and a die: 12 combinations, one sample."""
    coins = random_variable(lambda: Independent(Bernoulli(torch.tensor([0.3, 0.6], dtype=F64)), 1))
    die = random_variable(lambda: Categorical(torch.full((3,), 1 / 3, dtype=F64)))
    seen = random_variable(lambda: Normal(coins().sum() + die(), 1.0))
    logits = param(lambda: torch.tensor([0.1, -0.4, 0.2, 0.0, -0.3], dtype=F64))
    q_coins = random_variable(lambda: Independent(Bernoulli(logits=logits()[:2]), 1))
    q_die = random_variable(lambda: Categorical(logits=logits()[2:]))
    params: dict[Any, Tensor] = {}
    loss = monte_carlo_approximate_enumerated(
        {seen(): Y}, 1, kl_reverse, params, {coins(): q_coins(), die(): q_die()}
    )
    loss.backward()
    at = torch.tensor([0.1, -0.4, 0.2, 0.0, -0.3], dtype=F64, requires_grad=True)
    total = t(0.0)
    for a, b, c in itertools.product((0.0, 1.0), (0.0, 1.0), range(3)):
        pair = torch.tensor([a, b], dtype=F64)
        log_q = Bernoulli(logits=at[:2]).log_prob(pair).sum() + torch.log_softmax(at[2:], 0)[c]
        prior = Bernoulli(torch.tensor([0.3, 0.6], dtype=F64)).log_prob(pair).sum() - math.log(3)
        total = total - log_q.exp() * (prior + Normal(a + b + c, 1.0).log_prob(Y) - log_q)
    (gradient,) = torch.autograd.grad(total, at)
    assert torch.allclose(loss.detach(), total.detach(), rtol=1e-11)
    assert torch.allclose(params[logits()].grad, gradient, rtol=1e-10, atol=1e-12)


def test_with_rsample_everywhere_all_are_the_same() -> None:
    q = random_variable(lambda: Normal(lam()[1], lam()[3].exp()))
    free = random_variable(lambda: Normal(t(0.0), 1.0))
    found = []
    for approximate in (*BOTH.values(), monte_carlo_approximate_reparam):
        params: dict[Any, Tensor] = {}
        torch.manual_seed(3)
        loss = approximate({}, 4, amari(0.5), params, {free(): q()})
        loss.backward()
        found.append(torch.cat((loss.detach()[None], params[lam()].grad)))  # type: ignore[list-item]
    for one in found[:2]:
        assert torch.allclose(one, found[2], rtol=1e-11)


def test_the_table_s_entry_is_the_same_function() -> None:
    phi = param(lambda: torch.tensor(0.3))
    q = random_variable(lambda: Bernoulli(logits=phi()))
    coin = random_variable(lambda: Bernoulli(0.4))
    y = random_variable(lambda: Normal(coin(), 1.0))
    found = []
    for approximate in (monte_carlo_approximate_mixed, partial(monte_carlo_approximate, estimator="mixed")):
        torch.manual_seed(0)
        value = torch.tensor(0.3, requires_grad=True)
        loss = approximate({y(): torch.tensor(0.8)}, 6, kl_reverse, {phi(): value}, {coin(): q()})
        loss.backward()
        assert value.grad is not None
        found.append((loss.item(), value.grad.item()))
    assert found[0] == found[1]
    assert found[0][1] != 0


def test_local_coins_count_as_their_rows_do() -> None:
    pairs = {coin(): q_coin()}
    only = random_variable(lambda: Normal(2 * coin(), 1.0))
    losses = [
        monte_carlo_approximate_enumerated({only(): Y}, 1, kl_reverse, {}, pairs, factor, local=[coin()])
        for factor in (1.0, 0.5)
    ]
    assert torch.allclose(losses[1], 2 * losses[0])


@pytest.mark.parametrize("approximate", [monte_carlo_approximate_sf, *BOTH.values()])
def test_gradients_of_local_coins_count_as_their_rows_do(approximate: Callable[..., Tensor]) -> None:
    only = random_variable(lambda: Normal(2 * coin(), 1.0))
    params: dict[Any, Tensor] = {}

    def gradient(how: Callable[..., Tensor], samples: int, factor: float) -> Tensor:
        loss = how({only(): Y}, samples, kl_reverse, params, {coin(): q_coin()}, factor, local=[coin()])
        params[lam()].grad = None
        loss.backward()
        found = params[lam()].grad
        assert found is not None
        return found[0]

    twice = 2 * gradient(monte_carlo_approximate_enumerated, 1, 1.0)
    torch.manual_seed(0)
    sample = torch.stack([gradient(approximate, 4, 0.5) for _ in range(200)])
    assert (sample.mean() - twice).abs() < 4 * sample.std() / 200**0.5 + 1e-12


def test_inference_finds_the_coin_s_posterior() -> None:
    only = random_variable(lambda: Normal(2 * coin(), 1.0))
    vi = VariationalInfer({coin(): q_coin()}, {only(): Y}, lambda params: torch.optim.Adam(params, lr=0.2))
    world = vi.infer(80, 1, mc_approx=monte_carlo_approximate_enumerated)
    weights = torch.stack(
        [t(0.7).log() + Normal(0.0, 1.0).log_prob(Y), t(0.3).log() + Normal(2.0, 1.0).log_prob(Y)]
    )
    assert torch.allclose(world.get_guide_distribution(coin()).mean, weights.softmax(0)[1], atol=0.01)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Poisson(t(2.0)), "a Poisson, cannot be listed; use monte_carlo_approximate_mixed"),
        (lambda: Bernoulli(torch.full((9,), 0.5, dtype=F64)), r"has 2\^9 values, and at most 256"),
    ],
)
def test_what_cannot_be_listed_is_refused(make: Callable[[], Distribution], message: str) -> None:
    latent, guide = random_variable(make), random_variable(make)
    with pytest.raises(ModelError, match=message):
        monte_carlo_approximate_enumerated({}, 1, kl_reverse, {}, {latent(): guide()})
    assert monte_carlo_approximate_mixed({}, 2, kl_reverse, {}, {latent(): guide()}) == 0


def test_many_small_guides_are_too_many_together() -> None:
    names = [random_variable(lambda: Bernoulli(t(0.5))) for _ in range(18)]
    pairs = {a(): b() for a, b in zip(names[:9], names[9:], strict=True)}
    with pytest.raises(ModelError, match="more than 256 combinations"):
        monte_carlo_approximate_enumerated({}, 1, kl_reverse, {}, pairs)


def test_a_kinked_divergence_trains_and_a_model_s_params_want_a_bound() -> None:
    assert monte_carlo_approximate_mixed({y(): Y}, 2, total_variation, {}, GUIDES["coin first"]).isfinite()
    chance = param(lambda: t(0.2))
    own = random_variable(lambda: Bernoulli(logits=chance()))
    with pytest.raises(SpecError, match="cannot train"):
        monte_carlo_approximate_enumerated({}, 1, amari(2.0), {}, {own(): q_coin()})
