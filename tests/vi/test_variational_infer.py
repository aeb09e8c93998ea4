"""Interactive inference: the loop, its parameters, and what it refuses or reports."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gamma,
    Independent,
    LogNormal,
    MultivariateNormal,
    Normal,
)

from vi_dist.errors import ModelError, SpecError
from vi_dist.model.decorators import functional, param, random_variable
from vi_dist.vi.divergences import amari, kl_forward
from vi_dist.vi.monte_carlo import monte_carlo_approximate, monte_carlo_approximate_sf
from vi_dist.vi.variational_infer import VariationalInfer
from vi_dist.vi.variational_world import VariationalWorld

CLOSE = 0.05  # of quantities of order one, after the steps taken here
STL = partial(monte_carlo_approximate, estimator="stl")


def adam(rate: float) -> Callable[..., torch.optim.Optimizer]:
    """Makes Adam with a learning rate."""
    return lambda params: torch.optim.Adam(params, lr=rate)


class Regression:
    """Two unit-variance observations of a standard normal mean: posterior Normal(19 / 3, 1 / 3)."""

    @random_variable
    def mu(self) -> Distribution:
        """The mean."""
        return Normal(torch.tensor(0.0), 1.0)

    @random_variable
    def x(self, i: int) -> Distribution:
        """Data."""
        return Normal(self.mu(), 1.0)

    @functional
    def double(self) -> Tensor:
        """A derived quantity."""
        return 2 * self.mu()

    @param
    def phi(self) -> Tensor:
        """Mean and log standard deviation."""
        return torch.tensor([0.0, -1.0])

    @random_variable
    def q(self) -> Distribution:
        """The guide."""
        return Normal(self.phi()[0], self.phi()[1].exp())

    @property
    def observations(self) -> dict[Any, Tensor]:
        """The data."""
        return {self.x(0): torch.tensor(9.0), self.x(1): torch.tensor(10.0)}


def regression(**keywords: Any) -> tuple[Regression, VariationalInfer]:
    """The model above, ready to step."""
    model = Regression()
    return model, VariationalInfer({model.mu(): model.q()}, model.observations, **keywords)


def test_the_exact_posterior_is_found() -> None:
    # With "sticking the landing" the gradient has no variance at the optimum, so the fit gets there exactly.
    model, vi = regression(optimizer=adam(0.2))
    vi.infer(200, mc_approx=STL)
    world = vi.infer(60, 2, mc_approx=STL, discrepancy_fn=amari(0.5))
    guide = world.get_guide_distribution(model.mu())
    assert abs(guide.mean - 19 / 3) < 0.01 and abs(guide.stddev - 1 / math.sqrt(3)) < 0.01


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.5),
        lambda p: torch.optim.RMSprop(p, lr=0.05),
        lambda p: torch.optim.Adagrad(p, lr=1.0),
        lambda p: torch.optim.AdamW([{"params": list(p)}], lr=0.1, weight_decay=0.0),
        lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=5),
    ],
    ids=["sgd", "rmsprop", "adagrad", "adamw", "lbfgs"],
)
def test_any_torch_optimizer(optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    model, vi = regression(optimizer=optimizer)
    guide = vi.infer(150, num_samples=4).get_guide_distribution(model.mu())
    assert abs(guide.mean - 19 / 3) < 0.5


def test_infer_calls_back_and_returns_a_world() -> None:
    model, vi = regression()
    seen: list[tuple[int, Tensor, VariationalInfer]] = []
    world = vi.infer(3, step_callback=lambda *arguments: seen.append(arguments))
    assert [step for step, _, _ in seen] == [0, 1, 2]
    assert all(which is vi and not loss.requires_grad and loss.dim() == 0 for _, loss, which in seen)
    assert isinstance(world, VariationalWorld)
    assert world.call(model.double()) == 2 * world[model.mu()]
    assert world[model.x(0)] == 9.0


def test_the_world_returned_is_a_snapshot_without_gradients() -> None:
    model, vi = regression()
    world = vi.initialize_world()
    before = world.get_param(model.phi()).clone()
    vi.step()
    assert torch.equal(world.get_param(model.phi()), before)
    assert not torch.equal(vi.params[model.phi()], before)
    assert not world[model.mu()].requires_grad
    assert not world.get_guide_distribution(model.mu()).mean.requires_grad


def test_the_loss_is_the_objective_before_the_step() -> None:
    # With a point-like guide at m the negative ELBO is known: -log p(m) - log p(x | m) - entropy, up to the noise.
    model, vi = regression()
    vi.params[model.phi()].data.copy_(torch.tensor([1.0, -12.0]))
    loss = vi.step(num_samples=4)
    joint = Normal(0.0, 1.0).log_prob(torch.tensor(1.0)) + sum(
        Normal(1.0, 1.0).log_prob(torch.tensor(x)) for x in (9.0, 10.0)
    )
    entropy = 0.5 * math.log(2 * math.pi * math.e) - 12.0
    assert abs(loss - (-joint - entropy)) < 2.0 and not loss.requires_grad


def test_double_precision_stays() -> None:
    mu = random_variable(lambda: Normal(torch.tensor(0.0, dtype=torch.float64), 1.0))
    x = random_variable(lambda: Normal(mu(), 1.0))
    phi = param(lambda: torch.zeros(2, dtype=torch.float64))
    q = random_variable(lambda: Normal(phi()[0], phi()[1].exp()))
    vi = VariationalInfer({mu(): q()}, {x(): torch.tensor(1.0, dtype=torch.float64)})
    for mc_approx in ({}, {"mc_approx": monte_carlo_approximate_sf}):
        assert vi.step(2, **mc_approx).dtype == torch.float64
    world = vi.initialize_world()
    assert world[mu()].dtype == world.log_prob().dtype == vi.params[phi()].dtype == torch.float64


def test_the_same_seed_gives_the_same_fit() -> None:
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        model, vi = regression()
        vi.infer(20, num_samples=2)
        results.append(vi.params[model.phi()].detach())
    assert torch.equal(*results)


def test_a_guide_that_reads_another_latent() -> None:
    # Posterior of (mu, alpha) given x = mu + alpha + noise is correlated; the conditional guide can be exact.
    mu, alpha = (random_variable(lambda: Normal(0.0, 1.0)) for _ in range(2))
    x = random_variable(lambda: Normal(mu() + alpha(), 1.0))
    phi = param(lambda: torch.tensor([0.0, -0.5, 0.0, 0.0, -0.5]))
    q_alpha = random_variable(lambda: Normal(phi()[0], phi()[1].exp()))
    q_mu = random_variable(lambda: Normal(phi()[2] + phi()[3] * alpha(), phi()[4].exp()))
    vi = VariationalInfer({mu(): q_mu(), alpha(): q_alpha()}, {x(): torch.tensor(3.0)}, optimizer=adam(0.1))
    losses = [vi.step(2, mc_approx=STL).item() for _ in range(300)]
    # p(mu | alpha, x) = Normal((3 - alpha) / 2, 1 / 2); p(alpha | x) = Normal(1, 2 / 3).
    exact = torch.tensor([1.0, 0.5 * math.log(2 / 3), 1.5, -0.5, 0.5 * math.log(0.5)])
    assert torch.allclose(vi.params[phi()].detach(), exact, atol=CLOSE)
    evidence = Normal(0.0, math.sqrt(3)).log_prob(torch.tensor(3.0))
    assert abs(losses[-1] + evidence) < CLOSE


def test_a_discrete_mixture_by_the_score_function() -> None:
    count = 12
    truth = torch.tensor([0.0, 1.0] * (count // 2))
    h = random_variable(lambda i: Bernoulli(0.5))
    x = random_variable(lambda i: Normal(h(i), 0.2))
    phi = param(lambda i: torch.tensor(0.3))
    q = random_variable(lambda i: Bernoulli(logits=phi(i)))
    vi = VariationalInfer(
        {h(i): q(i) for i in range(count)},
        {x(i): truth[i] + 0.1 for i in range(count)},
        optimizer=adam(0.3),
    )
    world = vi.infer(40, num_samples=10, mc_approx=monte_carlo_approximate_sf)
    probabilities = torch.stack([world.get_guide_distribution(h(i)).probs for i in range(count)])
    assert torch.equal((probabilities > 0.5).float(), truth)


def test_a_model_with_python_control_flow_on_values() -> None:
    # The branch decides which of two latents explains x; both have guides.
    switch, low, high = (random_variable(lambda m=m: Normal(m, 1.0)) for m in (0.0, -4.0, 4.0))
    x = random_variable(lambda: Normal(low() if switch() < 0 else high(), 0.5))
    phi = param(lambda i: torch.tensor([0.0, -0.5]))
    q = random_variable(lambda i: Normal(phi(i)[0], phi(i)[1].exp()))
    latents = [switch(), low(), high()]
    vi = VariationalInfer(
        dict(zip(latents, map(q, range(3)), strict=True)), {x(): torch.tensor(5.0)}, adam(0.05)
    )
    world = vi.infer(150, 2)
    assert world.get_guide_distribution(high()).mean > 3.5
    assert world.get_guide_distribution(switch()).mean > -0.5
    assert vi.skipped_steps == 0


def test_params_in_the_model_find_the_largest_evidence() -> None:
    eta = param(lambda: torch.tensor(-1.0))
    z = random_variable(lambda: Normal(eta(), 1.0))
    y = random_variable(lambda: Normal(z(), 1.0))
    phi = param(lambda: torch.tensor([0.0, -0.3]))
    q = random_variable(lambda: Normal(phi()[0], phi()[1].exp()))
    vi = VariationalInfer({z(): q()}, {y(): torch.tensor(1.5)}, optimizer=adam(0.1))
    path: list[Tensor] = []
    vi.infer(350, 2, mc_approx=STL, step_callback=lambda *_: path.append(vi.params[eta()].detach().clone()))
    assert abs(torch.stack(path[-200:]).mean() - 1.5) < 2 * CLOSE
    with pytest.raises(SpecError, match="does not bound the evidence"):
        vi.step(2, discrepancy_fn=kl_forward)


class Late:
    """A guide that calls a second param only after a while."""

    def __init__(self) -> None:
        self.late = False

    @random_variable
    def mu(self) -> Distribution:
        """A latent."""
        return Normal(0.0, 1.0)

    @param
    def loc(self) -> Tensor:
        """Met at once."""
        return torch.tensor(0.0)

    @param
    def shift(self) -> Tensor:
        """Met later."""
        return torch.tensor(3.0)

    @random_variable
    def q(self) -> Distribution:
        """The guide."""
        return Normal(self.loc() + (self.shift() if self.late else 0.0), 1.0)


def test_a_param_met_later_reaches_the_optimizer() -> None:
    model = Late()
    vi = VariationalInfer({model.mu(): model.q()}, {}, optimizer=adam(0.1))
    vi.step()
    assert list(vi.params) == [model.loc()]
    model.late = True
    vi.step()
    assert abs(float(vi.params[model.shift()].detach()) - 3.0) > 0.05, "moved by the very step that met it"
    vi.infer(100, 2)
    assert abs(vi.params[model.shift()] + vi.params[model.loc()]) < 0.3


def test_a_param_met_later_is_refused_where_the_optimizer_cannot_take_it() -> None:
    model = Late()
    vi = VariationalInfer({model.mu(): model.q()}, {}, optimizer=lambda p: torch.optim.LBFGS(p))
    model.late = True
    with pytest.raises(ModelError, match="param shift appeared after the first step and LBFGS"):
        vi.step()


def test_guides_without_params_are_evaluated_only() -> None:
    mu, q = random_variable(lambda: Normal(0.0, 1.0)), random_variable(lambda: Normal(0.0, 1.0))
    vi = VariationalInfer({mu(): q()}, {})
    assert vi.step() == 0.0 and vi.params == {}


class Fragile:
    """The likelihood breaks where the latent is negative."""

    @random_variable
    def mu(self) -> Distribution:
        """A latent."""
        return Normal(0.0, 1.0)

    @random_variable
    def y(self) -> Distribution:
        """NaN where mu is negative."""
        return Normal(0.0, self.mu())

    @param
    def phi(self) -> Tensor:
        """The guide's mean."""
        return torch.tensor(0.0)

    @random_variable
    def q(self) -> Distribution:
        """The guide."""
        return Normal(self.phi(), 1.0)


def test_steps_that_are_not_finite_are_skipped_counted_and_warned_of_once() -> None:
    model = Fragile()
    vi = VariationalInfer({model.mu(): model.q()}, {model.y(): torch.tensor(0.5)}, optimizer=adam(1e-3))
    losses: list[Tensor] = []
    moved: list[bool] = []

    def forty_steps() -> None:
        for _ in range(40):
            before = vi.params[model.phi()].detach().clone()
            losses.append(vi.step())
            moved.append(not torch.equal(vi.params[model.phi()], before))

    with pytest.warns(RuntimeWarning, match="the loss is not finite") as caught:
        forty_steps()
    assert len(caught) == 1 and caught[0].filename == __file__
    assert moved == [bool(loss.isfinite()) for loss in losses]
    assert vi.skipped_steps == 40 - sum(moved) and 5 < vi.skipped_steps < 35
    assert vi.params[model.phi()].isfinite()


def test_a_gradient_that_is_not_finite_under_a_finite_loss_is_skipped_too() -> None:
    mu = random_variable(lambda: Normal(0.0, 1.0))
    # The square root has an infinite slope where its argument is zero, and the loss there is finite.
    y = random_variable(lambda: Normal(torch.sqrt(mu() * 0.0), 1.0))
    phi = param(lambda: torch.tensor(0.0))
    q = random_variable(lambda: Normal(phi(), 1.0))
    vi = VariationalInfer({mu(): q()}, {y(): torch.tensor(1.0)})
    with pytest.warns(RuntimeWarning, match="the gradient is not finite"):
        loss = vi.step()
    assert loss.isfinite() and vi.skipped_steps == 1 and vi.params[phi()] == 0.0


def test_a_failed_line_search_leaves_the_params_where_they_were() -> None:
    mu = random_variable(lambda: Normal(1.0, 1.0))
    y = random_variable(lambda: Normal(0.0, mu()))
    phi = param(lambda: torch.tensor(0.3))
    q = random_variable(lambda: Normal(phi(), 1e-4))
    vi = VariationalInfer({mu(): q()}, {y(): torch.tensor(0.0)}, lambda p: torch.optim.LBFGS(p, lr=50.0))
    with pytest.warns(RuntimeWarning, match="not finite"):
        vi.step()
    assert vi.skipped_steps == 1 and vi.params[phi()] == torch.tensor(0.3)


def test_users_bring_their_own_estimator_and_divergence() -> None:
    calls = []

    def mine(
        observations: Mapping[Any, Tensor],
        num_samples: int,
        discrepancy_fn: Callable[[Tensor], Tensor],
        params: Mapping[Any, Tensor],
        queries_to_guides: Mapping[Any, Any],
        subsample_factor: float = 1.0,
        device: torch.device | None = None,
    ) -> Tensor:
        calls.append((len(observations), num_samples, subsample_factor, list(queries_to_guides.values())))
        return sum((p**2).sum() for p in params.values()).reshape(1)

    model, vi = regression(optimizer=adam(0.1))
    vi.infer(60, 3, mc_approx=mine, subsample_factor=0.5)
    assert calls[0] == (2, 3, 0.5, [model.q()]) and len(calls) == 60
    assert vi.params[model.phi()].abs().max() < 0.2
    assert vi.step(4, discrepancy_fn=lambda l: torch.expm1(-0.1 * l)).isfinite()


def test_subsampling_recovers_the_full_posterior() -> None:
    # One of three equal observations, counted three times: posterior Normal(3 / 4, 1 / 4).
    model = Regression()
    vi = VariationalInfer({model.mu(): model.q()}, {model.x(0): torch.tensor(1.0)}, optimizer=adam(0.1))
    guide = vi.infer(200, mc_approx=STL, subsample_factor=1 / 3).get_guide_distribution(model.mu())
    assert abs(guide.mean - 0.75) < CLOSE and abs(guide.stddev - 0.5) < CLOSE
    vi = VariationalInfer(
        {model.mu(): model.q()}, {model.x(0): torch.tensor(1.0)}, adam(0.05), local=[model.mu()]
    )
    assert vi.step(1, subsample_factor=0.5).isfinite()


def test_joint_guides_of_a_user() -> None:
    scale = random_variable(lambda: Gamma(3.0, 2.0))
    shift = random_variable(lambda: Normal(0.0, 1.0))
    x = random_variable(lambda: Normal(shift() + torch.zeros(5), scale()))
    loc = param(lambda: torch.zeros(2))
    tril = param(lambda: 0.1 * torch.eye(2))
    q = random_variable(lambda: MultivariateNormal(loc(), scale_tril=tril().tril()))
    vi = VariationalInfer(
        {(scale(), shift()): q()}, {x(): torch.tensor([1.0, 2.0, 3.0, 2.0, 1.5])}, adam(0.05)
    )
    world = vi.infer(200, 4)
    assert world[scale()] > 0 and list(vi.params) == [loc(), tril()]
    assert abs(world.get_guide_distribution(shift()).mean - 1.6) < 0.3
    assert 0.3 < world.get_guide_distribution(scale()).sample((200,)).median() < 1.2


@pytest.mark.parametrize(
    ("guide", "message"),
    [
        (
            lambda: Normal(torch.full((3,), -9.0), 1.0),
            r"the guide q draws values outside the support of theta \(GreaterThanEq",
        ),
        (lambda: LogNormal(torch.zeros(3), 1.0), None),
        (lambda: LogNormal(torch.zeros(2), 1.0), r"theta, guided by q, has shape \[2\]"),
        (
            lambda: Categorical(torch.ones(3)),
            "the guide q is a discrete Categorical, but theta is continuous",
        ),
    ],
)
def test_guides_that_do_not_fit_are_refused(guide: Callable[[], Distribution], message: str | None) -> None:
    theta = random_variable(lambda: Gamma(torch.full((3,), 2.0), 1.0))
    theta.__wrapped__.__name__, guide.__name__ = "theta", "q"
    q = random_variable(guide)
    if message is None:
        assert VariationalInfer({theta(): q()}, {}).step().isfinite()
        return
    torch.manual_seed(1)
    with pytest.raises(ModelError, match=message):
        VariationalInfer({theta(): q()}, {})


def test_a_continuous_guide_for_a_discrete_latent_is_refused() -> None:
    coin = random_variable(lambda: Bernoulli(0.5))
    coin.__wrapped__.__name__ = "coin"
    q = random_variable(lambda: Normal(0.5, 1.0))
    with pytest.raises(ModelError, match=r"coin is discrete \(Bernoulli\); guide a discrete variable with"):
        VariationalInfer({coin(): q()}, {})


def test_a_latent_without_a_guide_is_named_on_construction() -> None:
    model = Regression()
    other = random_variable(lambda: Normal(model.mu(), 1.0))
    other.__wrapped__.__name__ = "other"
    x = random_variable(lambda: Normal(other(), 1.0))
    with pytest.raises(ModelError, match="other is neither observed nor guided"):
        VariationalInfer({model.mu(): model.q()}, {x(): torch.tensor(0.0)})


def test_an_observed_latent_with_a_guide_is_refused() -> None:
    model = Regression()
    with pytest.raises(ModelError, match="mu is observed, so it needs no guide"):
        VariationalInfer({model.mu(): model.q()}, {model.mu(): torch.tensor(0.0)})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(2, 1), "does not fit"),
        (torch.tensor([0.0, math.nan]), "nan at index"),
        (torch.zeros(3), "does not"),
    ],
)
def test_impossible_observations_are_refused(value: Tensor, message: str) -> None:
    model = Regression()
    y = random_variable(lambda: Normal(model.mu(), torch.ones(2)))
    with pytest.raises(ModelError, match=message):
        VariationalInfer({model.mu(): model.q()}, {y(): value})


def test_vectors_of_independent_latents() -> None:
    beta = random_variable(lambda: Independent(Normal(torch.zeros(4), 1.0), 1))
    x = torch.eye(4)
    y = random_variable(lambda: Independent(Normal(x @ beta(), 0.5), 1))
    loc = param(lambda: torch.zeros(4))
    q = random_variable(lambda: Independent(Normal(loc(), 0.4472), 1))
    vi = VariationalInfer({beta(): q()}, {y(): torch.arange(4.0)}, adam(0.05))
    world = vi.infer(200, 2)
    assert torch.allclose(world.get_param(loc()), 0.8 * torch.arange(4.0), atol=3 * CLOSE)
