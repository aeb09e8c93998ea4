"""Held-out predictive density, against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MultivariateNormal, Normal

from vi_dist.errors import ModelError
from vi_dist.evaluation.elpd import HeldOut, row_log_densities
from vi_dist.model.decorators import random_variable
from vi_dist.model.model import Model
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.layout import make_layout

Y = torch.tensor([0.3, 1.7, 2.2, 0.9, 1.4], dtype=torch.float64)


def density(build: Callable[[], Model]) -> Density:
    with model_context(torch.float64):
        model = build()
        return Density(model, make_layout(model))


def normal(loop: bool = False) -> Model:
    """y_i ~ N(mu, 1), mu ~ N(0, 3): under N(m, s²) the predictive density of a row is N(m, 1 + s²)."""

    @random_variable
    def mu() -> Distribution:
        return Normal(0.0, 3.0)

    @random_variable
    def y() -> Distribution:
        return Normal(mu() + (0.0 if not loop or mu() > -100 else 1.0), 1.0).expand((5,))

    return Model([mu()], {y(): Y})


@pytest.mark.parametrize("loop", [False, True])
def test_a_gaussian_guide_of_a_gaussian_mean_has_the_closed_form(loop: bool) -> None:
    found = density(lambda: normal(loop))
    start = found.layout.loc.to(torch.float64)
    samples = 400 if loop else 20_000
    family = GUIDES["mean_field"].make(found.layout.noise)
    leaves = family.initial(torch.tensor([1.2], dtype=torch.float64), 0.5)
    score = HeldOut(found, start, samples)(family, leaves, torch.zeros(0))
    each = Normal(1.2, math.sqrt(1 + 0.25)).log_prob(Y)
    # log mean of S draws: its error is about sd(p) / (p sqrt(S)) for each row.
    assert score.value == pytest.approx(float(each.sum()), abs=5 * 0.5 * math.sqrt(5 / samples))
    assert score.se == pytest.approx(math.sqrt(5) * float(each.std()), rel=0.1)


def test_a_point_predicts_by_its_own_density() -> None:
    found = density(normal)
    family = GUIDES["delta"].make(found.layout.noise)
    leaf = torch.tensor([1.2], dtype=torch.float64)
    leaves = family.initial(leaf, 0.5)
    score = HeldOut(found, found.layout.loc.to(torch.float64), 8)(family, leaves, torch.zeros(0))
    assert score.value == pytest.approx(float(Normal(leaf, 1.0).log_prob(Y).sum()), abs=1e-12)


def test_many_draws_are_taken_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    found = density(normal)
    family = GUIDES["mean_field"].make(found.layout.noise)
    leaves = family.initial(torch.tensor([1.2], dtype=torch.float64), 0.5)
    score = HeldOut(found, found.layout.loc.to(torch.float64), 100)
    whole = score(family, leaves, torch.zeros(0))
    monkeypatch.setattr("vi_dist.evaluation.elpd.AT_ONCE", 15)
    parts = score(family, leaves, torch.zeros(0))
    assert parts.value == pytest.approx(whole.value, abs=1e-12)


def observed(make: Callable[[Tensor], Distribution], *values: Tensor) -> Density:
    """A model of one latent whose observations are distributed as `make` says."""

    @random_variable
    def mu() -> Distribution:
        return Normal(torch.zeros(2), 1.0)

    @random_variable
    def y(k: int) -> Distribution:
        return make(mu())

    return density(lambda: Model([mu()], {y(k): value for k, value in enumerate(values)}))


def test_rows_are_the_first_axis_whatever_was_declared_to_belong_together() -> None:
    values = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    flat = torch.tensor([0.3, -0.2], dtype=torch.float64)
    expected = Normal(flat, 1.0).log_prob(values).sum(1)

    for make in (
        lambda mu: Normal(mu, 1.0).expand((5, 2)),
        lambda mu: Independent(Normal(mu, 1.0).expand((5, 2)), 1),
        lambda mu: Independent(Normal(mu, 1.0).expand((5, 2)), 2),
        lambda mu: MultivariateNormal(mu, torch.eye(2)).expand((5,)),
    ):
        made = observed(make, values)
        with model_context(torch.float64):
            torch.testing.assert_close(row_log_densities(made, flat), expected)


def test_several_observed_variables_add_up() -> None:
    values = torch.tensor([0, 1, 1, 0], dtype=torch.int64)
    flat = torch.tensor([0.3, -0.2], dtype=torch.float64)
    one = observed(lambda mu: Categorical(logits=mu).expand((4,)), values)
    two = observed(lambda mu: Categorical(logits=mu).expand((4,)), values, 1 - values)
    torch.testing.assert_close(
        row_log_densities(two, flat),
        row_log_densities(one, flat) + torch.log_softmax(flat, 0)[1 - values],
    )


def test_a_density_that_rows_share_is_refused() -> None:
    found = observed(lambda mu: MultivariateNormal(mu.sum() * torch.ones(5), torch.eye(5)), Y)
    with pytest.raises(ModelError, match="not one for each of its 5 rows") as caught:
        row_log_densities(found, torch.zeros(2, dtype=torch.float64))
    assert caught.value.key == "holdout"
