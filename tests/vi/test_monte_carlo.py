"""The interactive objectives: their value is the objective, their gradient the estimator's."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal, Uniform

from vi_dist.errors import ModelError, SpecError
from vi_dist.model.decorators import param, random_variable
from vi_dist.vi.divergences import amari, jensen_shannon, kl_forward, kl_reverse, neyman_chi2, total_variation
from vi_dist.vi.monte_carlo import (
    monte_carlo_approximate,
    monte_carlo_approximate_reparam,
    monte_carlo_approximate_sf,
)

DOUBLE = torch.float64
EXACT = 1e-11  # two ways of the same arithmetic in float64


def number(value: float) -> Tensor:
    """A scalar in double precision."""
    return torch.tensor(value, dtype=DOUBLE)


class Chain:
    """a -> b -> y with a guide for b that reads a; counts the runs of the likelihood."""

    y = number(1.2)

    def __init__(self) -> None:
        self.likelihoods = 0

    @random_variable
    def a(self) -> Distribution:
        """First latent."""
        return Normal(number(0.0), 1.0)

    @random_variable
    def b(self) -> Distribution:
        """Second latent."""
        return Normal(0.5 * self.a(), 1.0)

    @random_variable
    def seen(self) -> Distribution:
        """Data."""
        self.likelihoods += 1
        return Normal(self.b(), 0.7)

    @param
    def lam(self) -> Tensor:
        """Params of both guides."""
        return torch.tensor([0.3, -0.2, 0.8, 0.4, -0.3], dtype=DOUBLE)

    @random_variable
    def q_a(self) -> Distribution:
        """Guide of a."""
        return Normal(self.lam()[0], self.lam()[1].exp())

    @random_variable
    def q_b(self) -> Distribution:
        """Guide of b, given a."""
        return Normal(self.lam()[2] + self.lam()[3] * self.a(), self.lam()[4].exp())

    @property
    def pairs(self) -> dict[Any, Any]:
        """Queries to guides."""
        return {self.a(): self.q_a(), self.b(): self.q_b()}

    def log_joint(self, a: Tensor, b: Tensor) -> Tensor:
        """By hand."""
        return (
            Normal(number(0.0), 1.0).log_prob(a)
            + Normal(0.5 * a, 1.0).log_prob(b)
            + Normal(b, 0.7).log_prob(self.y)
        )

    @staticmethod
    def draw(lam: Tensor) -> tuple[Tensor, Tensor]:
        """By hand, with the same use of the generator."""
        a = Normal(lam[0], lam[1].exp()).rsample()
        return a, Normal(lam[2] + lam[3] * a, lam[4].exp()).rsample()

    @staticmethod
    def log_guide(lam: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """By hand."""
        return Normal(lam[0], lam[1].exp()).log_prob(a) + Normal(lam[2] + lam[3] * a, lam[4].exp()).log_prob(
            b
        )


def by_hand(
    model: Chain, estimator: str, g: Callable[[Tensor], Tensor], samples: int
) -> tuple[Tensor, Tensor]:
    """Loss and gradient in the guides' params, written out from the textbook surrogate."""
    lam = model.lam().function(model).clone().requires_grad_()
    draws = [model.draw(lam) for _ in range(samples)]
    a, b = (torch.stack(column) for column in zip(*draws, strict=True))
    stopped = model.log_joint(a, b) - model.log_guide(lam.detach(), a, b)
    slope = torch.func.grad(lambda x: g(x).sum())
    l = stopped.detach()
    value, first, second = g(l), slope(l), torch.func.grad(lambda x: slope(x).sum())(l)
    if estimator == "reparam":
        surrogate = g(model.log_joint(a, b) - model.log_guide(lam, a, b)).mean()
    elif estimator == "stl":
        surrogate = ((first - second) * stopped).mean()
    else:
        reward = value - first
        others = (reward.sum() - reward) / (samples - 1)
        surrogate = ((reward - others) * model.log_guide(lam, a.detach(), b.detach())).mean()
    (gradient,) = torch.autograd.grad(surrogate, lam)
    return value.mean(), gradient


@pytest.mark.parametrize("estimator", ["reparam", "stl", "score"])
@pytest.mark.parametrize(
    "g",
    [kl_reverse, kl_forward, amari(0.5), jensen_shannon, lambda l: torch.expm1(-l)],
    ids=["kl_reverse", "kl_forward", "amari", "jensen_shannon", "callable"],
)
def test_gradients_are_the_textbook_s(estimator: str, g: Callable[[Tensor], Tensor]) -> None:
    model, params = Chain(), {}
    torch.manual_seed(4)
    loss = monte_carlo_approximate({model.seen(): model.y}, 5, g, params, model.pairs, estimator=estimator)
    loss.backward()
    torch.manual_seed(4)
    value, gradient = by_hand(model, estimator, g, 5)
    assert torch.allclose(loss, value, rtol=EXACT) and loss.dtype == DOUBLE
    assert torch.allclose(params[model.lam()].grad, gradient, rtol=EXACT, atol=EXACT)


def test_the_two_names_of_bean_machine() -> None:
    model = Chain()
    for function, estimator in (
        (monte_carlo_approximate_reparam, "reparam"),
        (monte_carlo_approximate_sf, "score"),
    ):
        gradients = []
        for call in (function, partial(monte_carlo_approximate, estimator=estimator)):
            params: dict = {}
            torch.manual_seed(1)
            call(
                {model.seen(): model.y}, 3, kl_forward, params, model.pairs, 1.0, torch.device("cpu")
            ).backward()
            gradients.append(params[model.lam()].grad)
        assert torch.equal(*gradients)


@pytest.mark.parametrize("estimator", ["reparam", "stl", "score"])
@pytest.mark.parametrize("g", [kl_reverse, amari(0.5)], ids=["kl_reverse", "amari"])
def test_gradients_are_unbiased(estimator: str, g: Callable[[Tensor], Tensor]) -> None:
    mu = random_variable(lambda: Normal(number(0.0), 1.0))
    y = random_variable(lambda: Normal(mu(), 1.0))
    lam = param(lambda: torch.tensor([0.4, -0.3], dtype=DOUBLE))
    q = random_variable(lambda: Normal(lam()[0], lam()[1].exp()))
    params: dict = {}
    gradients = []
    for _ in range(250):
        loss = monte_carlo_approximate({y(): number(1.2)}, 2, g, params, {mu(): q()}, estimator=estimator)
        params[lam()].grad = None
        loss.backward()
        gradients.append(params[lam()].grad)
    sample = torch.stack(gradients)
    grid = torch.linspace(-9, 9, 20001, dtype=DOUBLE)
    at = lam().function().requires_grad_()
    log_q = Normal(at[0], at[1].exp()).log_prob(grid)
    l = Normal(number(0.0), 1.0).log_prob(grid) + Normal(grid, 1.0).log_prob(number(1.2)) - log_q
    (exact,) = torch.autograd.grad(torch.trapezoid(log_q.exp() * g(l), grid), at)
    error = sample.std(0) / len(sample) ** 0.5
    assert bool(((sample.mean(0) - exact).abs() < 4 * error).all()), (sample.mean(0), exact, error)


@pytest.mark.parametrize("g", [kl_reverse, kl_forward, amari(0.5), jensen_shannon], ids=lambda g: g.name)
def test_at_the_posterior_the_value_has_no_variance(g: Callable[[Tensor], Tensor]) -> None:
    # Normal prior and likelihood, y = 1: posterior Normal(1/2, 1/2), evidence Normal(1; 0, 2).
    mu = random_variable(lambda: Normal(number(0.0), 1.0))
    y = random_variable(lambda: Normal(mu(), 1.0))
    lam = param(lambda: torch.tensor([0.5, -0.5 * math.log(2)], dtype=DOUBLE))
    q = random_variable(lambda: Normal(lam()[0], lam()[1].exp()))
    evidence = Normal(number(0.0), math.sqrt(2)).log_prob(number(1.0))
    sizes = {}
    for estimator in ("reparam", "stl", "score"):
        params: dict = {}
        loss = monte_carlo_approximate({y(): number(1.0)}, 4, g, params, {mu(): q()}, estimator=estimator)
        loss.backward()
        assert torch.allclose(loss, g(evidence), rtol=EXACT)
        sizes[estimator] = float(params[lam()].grad.abs().max())
    assert sizes["stl"] < EXACT and sizes["score"] < EXACT
    assert sizes["reparam"] > 1e-3


class Empirical:
    """y ~ N(z, 1), z ~ N(eta, 1): the evidence is largest at eta = y."""

    y = number(1.5)

    @param
    def eta(self) -> Tensor:
        """A param of the model."""
        return number(-0.5)

    @param
    def lam(self) -> Tensor:
        """Params of the guide."""
        return torch.tensor([0.4, -0.3], dtype=DOUBLE)

    @random_variable
    def z(self) -> Distribution:
        """The latent."""
        return Normal(self.eta(), 1.0)

    @random_variable
    def seen(self) -> Distribution:
        """Data."""
        return Normal(self.z(), 1.0)

    @random_variable
    def q(self) -> Distribution:
        """The guide."""
        return Normal(self.lam()[0], self.lam()[1].exp())


@pytest.mark.parametrize("estimator", ["reparam", "stl", "score"])
def test_params_of_the_model_have_their_own_coefficients(estimator: str) -> None:
    model, params = Empirical(), {}
    torch.manual_seed(2)
    loss = monte_carlo_approximate(
        {model.seen(): model.y}, 6, neyman_chi2, params, {model.z(): model.q()}, estimator=estimator
    )
    loss.backward()
    torch.manual_seed(2)
    lam = params[model.lam()].detach()
    z = torch.stack([Normal(lam[0], lam[1].exp()).sample() for _ in range(6)])
    eta = number(-0.5).requires_grad_()
    l = (
        Normal(eta, 1.0).log_prob(z)
        + Normal(z, 1.0).log_prob(model.y)
        - Normal(lam[0], lam[1].exp()).log_prob(z)
    )
    (exact,) = torch.autograd.grad(torch.expm1(-l).mean(), eta)
    assert torch.allclose(params[model.eta()].grad, exact, rtol=EXACT)


@pytest.mark.parametrize("g", [kl_forward, amari(2.0), lambda l: -l], ids=["kl_forward", "amari", "callable"])
def test_objectives_that_do_not_bound_the_evidence_do_not_train_the_model(
    g: Callable[[Tensor], Tensor],
) -> None:
    model = Empirical()
    with pytest.raises(SpecError, match="does not bound the evidence"):
        monte_carlo_approximate_reparam({model.seen(): model.y}, 2, g, {}, {model.z(): model.q()})


def test_a_param_that_the_model_s_support_depends_on_reaches_the_objective() -> None:
    # z = eta * sigmoid(x): through the joint guide the density of x is eta's business in three places.
    eta = param(lambda: number(2.0))
    lam = param(lambda: torch.tensor([0.2, -1.0], dtype=DOUBLE))
    z = random_variable(lambda: Uniform(number(0.0), eta()))
    y = random_variable(lambda: Normal(z(), 1.0))
    q = random_variable(lambda: Independent(Normal(lam()[:1], lam()[1:].exp()), 1))
    params: dict = {}
    torch.manual_seed(3)
    monte_carlo_approximate_reparam({y(): number(1.0)}, 4, kl_reverse, params, {(z(),): q()}).backward()
    torch.manual_seed(3)
    leaves = number(2.0).requires_grad_(), torch.tensor([0.2, -1.0], dtype=DOUBLE, requires_grad=True)
    (e, at) = leaves
    x = torch.stack([Normal(at[:1], at[1:].exp()).rsample() for _ in range(4)])[:, 0]
    value = e * x.sigmoid()
    jacobian = e.log() + x.sigmoid().log() + (-x).sigmoid().log()
    log_q = Normal(at[0], at[1].exp()).log_prob(x)
    l = -e.log() + Normal(value, 1.0).log_prob(number(1.0)) + jacobian - log_q
    expected = torch.autograd.grad(-l.mean(), leaves)
    for key, gradient in zip((eta(), lam()), expected, strict=True):
        assert torch.allclose(params[key].grad, gradient, rtol=1e-9, atol=1e-12)


def test_the_likelihood_runs_once_per_sample_and_only_where_it_belongs() -> None:
    model = Chain()
    amortised = random_variable(lambda: Normal(0.5 * model.seen(), 1.0))
    pairs = {model.a(): model.q_a(), model.b(): amortised()}
    for samples in (1, 7):
        for estimator in ("reparam", "stl", "score"):
            model.likelihoods = 0
            observations = {model.seen(): model.y}
            monte_carlo_approximate(
                observations, samples, kl_reverse, {}, pairs, estimator=estimator
            ).backward()
            assert model.likelihoods == samples


def test_without_gradients_only_the_value_is_computed() -> None:
    model = Chain()
    with torch.no_grad():
        loss = monte_carlo_approximate_reparam({model.seen(): model.y}, 2, kl_reverse, {}, model.pairs)
    assert not loss.requires_grad and loss.isfinite()


@pytest.mark.parametrize("indices", [range(60), range(59, -1, -1)], ids=["up", "down"])
def test_the_sum_over_sites_has_a_fixed_order(indices: range) -> None:
    # Many terms in single precision: another order gives other bits.
    x = random_variable(lambda i: Normal(torch.tensor(0.0), 1 + 0.37 * i))
    q = random_variable(lambda i: Normal(torch.tensor(0.1 * i), 1.0))
    torch.manual_seed(0)
    value = monte_carlo_approximate_reparam({}, 1, kl_reverse, {}, {x(i): q(i) for i in indices})
    torch.manual_seed(0)
    draws = [Normal(torch.tensor(0.1 * i), 1.0).sample() for i in indices]
    log_p = [Normal(torch.tensor(0.0), 1 + 0.37 * i).log_prob(z) for i, z in zip(indices, draws, strict=True)]
    log_q = [Normal(torch.tensor(0.1 * i), 1.0).log_prob(z) for i, z in zip(indices, draws, strict=True)]
    assert value == -(reduce(torch.add, log_p) - reduce(torch.add, log_q))
    assert value != -(reduce(torch.add, log_p[::-1]) - reduce(torch.add, log_q[::-1])), (
        "the test could not fail"
    )


def test_subsampling_scales_the_observations_and_what_is_local() -> None:
    base = random_variable(lambda: Normal(number(0.0), 1.0))
    row = random_variable(lambda: Normal(base(), torch.ones(3, dtype=DOUBLE)))
    y = random_variable(lambda: Normal(row(), 1.0))
    fixed = {"base": number(0.3), "row": torch.tensor([0.1, -0.4, 0.9], dtype=DOUBLE)}
    q_base = random_variable(lambda: Normal(fixed["base"], 1e-3))
    q_row = random_variable(lambda: Normal(fixed["row"], 1e-3))
    pairs = {base(): q_base(), row(): q_row()}
    data = {y(): torch.ones(3, dtype=DOUBLE)}

    def loss(**keywords: Any) -> Tensor:
        torch.manual_seed(0)
        return monte_carlo_approximate_reparam(data, 1, kl_reverse, {}, pairs, **keywords)

    torch.manual_seed(0)
    b, r = Normal(fixed["base"], 1e-3).sample(), Normal(fixed["row"], 1e-3).sample()
    far = Normal(number(0.0), 1.0).log_prob(b) - Normal(fixed["base"], 1e-3).log_prob(b)
    near = Normal(b, 1.0).log_prob(r).sum() - Normal(fixed["row"], 1e-3).log_prob(r).sum()
    seen = Normal(r, 1.0).log_prob(data[y()]).sum()
    assert torch.allclose(loss(), -(far + near + seen), rtol=EXACT)
    assert torch.allclose(loss(subsample_factor=0.25), -(far + near + 4 * seen), rtol=EXACT)
    assert torch.allclose(
        loss(subsample_factor=0.25, local=[row()]), -(far + 4 * near + 4 * seen), rtol=EXACT
    )


def test_subsampling_scales_the_jacobians_of_local_latents_too() -> None:
    row = random_variable(lambda: Uniform(number(0.0), 2.0))
    y = random_variable(lambda: Normal(row(), 1.0))
    q = random_variable(lambda: Independent(Normal(torch.zeros(1, dtype=DOUBLE), 1.0), 1))
    keywords = {"subsample_factor": 0.5, "local": [row()]}
    torch.manual_seed(0)
    loss = monte_carlo_approximate_reparam({y(): number(1.0)}, 1, kl_reverse, {}, {(row(),): q()}, **keywords)
    torch.manual_seed(0)
    x = Normal(torch.zeros(1, dtype=DOUBLE), 1.0).sample()[0]
    value = 2 * x.sigmoid()
    jacobian = value.log() + (-x).sigmoid().log()
    l = -math.log(2) + Normal(value, 1.0).log_prob(number(1.0)) + jacobian - Normal(0.0, 1.0).log_prob(x)
    assert torch.allclose(loss, -2 * l, rtol=1e-6)


def bernoulli_guide() -> Distribution:
    """No rsample."""
    return Bernoulli(0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_samples": 0}, "num_samples is 0"),
        ({"subsample_factor": 0.0}, "subsample_factor is 0.0"),
        ({"subsample_factor": 1.5}, "subsample_factor is 1.5"),
        ({"local": [Chain().seen()]}, "seen is declared local but has no guide"),
        ({"discrepancy_fn": total_variation, "estimator": "stl"}, "kink"),
        (
            {"subsample_factor": 0.5, "discrepancy_fn": kl_forward},
            "kl_forward is not linear in the log weights",
        ),
        ({"subsample_factor": 0.5, "estimator": "dreg"}, "dreg weights samples by their log weights"),
    ],
)
def test_senseless_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    model = Chain()
    given: dict[str, Any] = {"num_samples": 1, "discrepancy_fn": kl_reverse, "params": {}, **change}
    with pytest.raises(SpecError, match=message):
        monte_carlo_approximate({model.seen(): model.y}, queries_to_guides=model.pairs, **given)


def test_local_and_global_latents_do_not_share_a_guide() -> None:
    model = Chain()
    q = random_variable(lambda: Independent(Normal(torch.zeros(2), 1.0), 1))
    with pytest.raises(ModelError, match="b is local and a is not"):
        monte_carlo_approximate_reparam(
            {model.seen(): model.y}, 1, kl_reverse, {}, {(model.a(), model.b()): q()}, 0.5, local=[model.b()]
        )


def test_a_latent_without_a_guide_is_named() -> None:
    model = Chain()
    with pytest.raises(ModelError, match="^guide: a is neither observed nor guided; give it a guide"):
        monte_carlo_approximate_reparam({model.seen(): model.y}, 1, kl_reverse, {}, {model.b(): model.q_b()})
    plain = random_variable(lambda: Normal(number(0.0), 1.0))
    with pytest.raises(ModelError, match="^guide: a is neither"):
        monte_carlo_approximate_reparam({model.seen(): model.y}, 1, kl_reverse, {}, {model.b(): plain()})


def test_a_variable_drawn_inside_a_guide_is_named() -> None:
    model = Chain()
    auxiliary = random_variable(lambda: Normal(0.0, 1.0))
    auxiliary.__wrapped__.__name__ = "auxiliary"
    q = random_variable(lambda: Normal(auxiliary(), 1.0))
    with pytest.raises(ModelError, match="auxiliary is neither observed nor guided"):
        monte_carlo_approximate_reparam({}, 1, kl_reverse, {}, {model.a(): q()})


def test_a_guide_without_rsample_asks_for_the_score_function() -> None:
    coin, q = random_variable(bernoulli_guide), random_variable(bernoulli_guide)
    with pytest.raises(
        ModelError, match="bernoulli_guide is a Bernoulli, .* use monte_carlo_approximate_mixed"
    ):
        monte_carlo_approximate_reparam({}, 1, kl_reverse, {}, {coin(): q()})
    assert monte_carlo_approximate_sf({}, 2, kl_reverse, {}, {coin(): q()}) == 0.0


def test_discrete_guides_by_the_score_function_against_exact_sums() -> None:
    coin = random_variable(lambda: Bernoulli(number(0.3)))
    y = random_variable(lambda: Normal(coin(), 1.0))
    logit = param(lambda: number(0.4))
    q = random_variable(lambda: Bernoulli(logits=logit()))
    params: dict = {}
    gradients = []
    for _ in range(400):
        loss = monte_carlo_approximate_sf({y(): number(1.4)}, 3, kl_reverse, params, {coin(): q()})
        params[logit()].grad = None
        loss.backward()
        gradients.append(params[logit()].grad)
    sample = torch.stack(gradients)
    at = number(0.4).requires_grad_()
    both = torch.tensor([0.0, 1.0], dtype=DOUBLE)
    log_q = Bernoulli(logits=at).log_prob(both)
    l = Bernoulli(number(0.3)).log_prob(both) + Normal(both, 1.0).log_prob(number(1.4)) - log_q
    (exact,) = torch.autograd.grad((log_q.exp() * -l).sum(), at)
    assert abs(sample.mean() - exact) < 4 * sample.std() / len(sample) ** 0.5


def test_the_result_can_be_scaled_and_added() -> None:
    model, gradients = Chain(), []
    for factor in (1.0, 3.0):
        params: dict = {}
        torch.manual_seed(0)
        loss = monte_carlo_approximate_reparam({model.seen(): model.y}, 2, kl_reverse, params, model.pairs)
        (factor * loss + 1.0).backward()
        gradients.append(params[model.lam()].grad)
    assert torch.allclose(3 * gradients[0], gradients[1])


def test_value_checks_are_off_inside_and_back_on_afterwards() -> None:
    mu = random_variable(lambda: Normal(number(0.0), 1.0))
    y = random_variable(lambda: Normal(0.0, mu()))
    q = random_variable(lambda: Normal(number(-3.0), 0.1))
    loss = monte_carlo_approximate_reparam({y(): number(0.0)}, 1, kl_reverse, {}, {mu(): q()})
    assert loss.isnan()
    with pytest.raises(ValueError, match="scale"):
        Normal(0.0, -1.0)
