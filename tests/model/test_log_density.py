"""Log densities of counts and truths, and those that replace torch's own, against torch and closed forms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.distributions as td
from torch import Tensor

from vi_dist.model.log_density import REPLACEMENTS, log_density
from vi_dist.model.validation import unvalidated

N = 64


def _uniform(*shape: int) -> Tensor:
    return 0.05 + 0.9 * torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _root() -> Tensor:
    return torch.eye(3, dtype=torch.float64) + torch.tril(_uniform(N, 3, 3), -1)


# Of every replacement: distributions that reach it in each way.
REPLACED: dict[str, Callable[[], td.Distribution]] = {
    "Geometric of probabilities": lambda: td.Geometric(_uniform(N)),
    "Geometric of logits": lambda: td.Geometric(logits=_uniform(N)),
    "Geometric that is certain": lambda: td.Geometric(torch.ones(N, dtype=torch.float64)),
    "Independent": lambda: td.Independent(td.Geometric(_uniform(N, 3)), 1),
    "Independent of nothing": lambda: td.Independent(td.Geometric(_uniform(N)), 0),
    "MixtureSameFamily": lambda: td.MixtureSameFamily(
        td.Categorical(_uniform(N, 2)), td.Geometric(_uniform(N, 2))
    ),
    "MixtureSameFamily of vectors": lambda: td.MixtureSameFamily(
        td.Categorical(_uniform(N, 2)), td.Independent(td.Normal(_uniform(N, 2, 3), 1.0), 1)
    ),
    "Multinomial": lambda: td.Multinomial(7, _uniform(N, 4)),
    "Multinomial without a category": lambda: td.Multinomial(7, _uniform(N, 4) * torch.tensor([1, 0, 1, 1])),
    "Wishart": lambda: td.Wishart(6 + _uniform(N), scale_tril=_root()),
}


def test_every_replacement_is_compared() -> None:
    assert {name.split()[0] for name in REPLACED} == {one.__name__ for one in REPLACEMENTS}


@pytest.mark.parametrize("name", REPLACED)
def test_replacements_are_what_torch_says(name: str) -> None:
    torch.manual_seed(0)
    distribution = REPLACED[name]()
    # torch finds some of its own draws of a batch of Wishart matrices singular, and warns.
    value = distribution.mean if isinstance(distribution, td.Wishart) else distribution.sample()
    mine, theirs = log_density(distribution, value), distribution.log_prob(value)
    torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    if bool((value == value.round()).all()):
        torch.testing.assert_close(log_density(distribution, value.long()), theirs, rtol=1e-12, atol=1e-12)


def test_a_component_has_no_density_outside_of_its_own_support() -> None:
    scale = torch.tensor([1.0, 2.0], dtype=torch.float64)
    weights = td.Categorical(torch.tensor([0.25, 0.75], dtype=torch.float64))
    mixture = td.MixtureSameFamily(weights, td.Pareto(scale, 3.0))
    value = torch.tensor([1.5, 4.0], dtype=torch.float64)
    first, second = 3 * value**-4, 3 * 2**3 * value**-4 * torch.tensor([0.0, 1.0])
    expected = (0.25 * first + 0.75 * second).log()
    with unvalidated():
        torch.testing.assert_close(log_density(mixture, value), expected)


def test_a_wishart_has_no_density_where_it_is_not_proper() -> None:
    wishart = td.Wishart(torch.tensor(3.0), torch.eye(3))
    wishart.df = torch.tensor(1.5)
    assert log_density(wishart, torch.eye(3)).isnan()


OUTCOMES: dict[str, Callable[[Tensor], td.Distribution]] = {
    "Bernoulli": lambda p: td.Bernoulli(p),
    "Bernoulli of logits": lambda p: td.Bernoulli(logits=p),
    "Binomial": lambda p: td.Binomial(1, p),
    "Categorical": lambda p: td.Categorical(torch.stack((p, 1 - p), -1)),
    "Cauchy": lambda p: td.Cauchy(p, 1.0),
    "ContinuousBernoulli": lambda p: td.ContinuousBernoulli(p),
    "Geometric": lambda p: td.Geometric(p),
    "Independent": lambda p: td.Independent(td.Bernoulli(p), 1),
    "Laplace": lambda p: td.Laplace(p, 1.0),
    "Multinomial": lambda p: td.Multinomial(32, p),
    "MultivariateNormal": lambda p: td.MultivariateNormal(p, torch.eye(N, dtype=p.dtype)),
    "NegativeBinomial": lambda p: td.NegativeBinomial(3.0, p),
    "Normal": lambda p: td.Normal(p, 1.0),
    "OneHotCategorical": lambda p: td.OneHotCategorical(p),
    "Poisson": lambda p: td.Poisson(p),
    "StudentT": lambda p: td.StudentT(4.0, p),
    "TransformedDistribution": lambda p: td.TransformedDistribution(
        td.Normal(p, 1.0), td.AffineTransform(1.0, 2.0)
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [torch.int64, torch.bool])
@pytest.mark.parametrize("name", OUTCOMES)
def test_counts_and_truths_are_the_numbers_that_they_stand_for(
    name: str, kind: torch.dtype, dtype: torch.dtype
) -> None:
    outcomes = torch.rand(N, generator=torch.Generator().manual_seed(1)) < 0.5
    if name == "OneHotCategorical":
        outcomes = torch.arange(N) == 5
    distribution = OUTCOMES[name](_uniform(N).to(dtype))
    found = log_density(distribution, outcomes.to(kind))
    assert found.dtype == dtype
    assert torch.equal(found, log_density(distribution, outcomes.to(dtype)))
    assert found.isfinite().all()


class Table(td.Distribution):
    """Log probabilities that are looked up: indices must be integers, a mask must be boolean."""

    arg_constraints: dict[str, td.constraints.Constraint] = {}  # noqa: RUF012

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """The entries at the values."""
        return self.logits[value]


@pytest.mark.parametrize("value", [torch.tensor([2, 0]), torch.tensor([True, False, True])])
def test_what_is_looked_up_stays_as_it_is(value: Tensor) -> None:
    table = torch.tensor([-1.0, -2.0, -3.0])
    assert torch.equal(log_density(Table(table), value), table[value])
