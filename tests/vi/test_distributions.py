"""Every distribution of torch's, as a likelihood and as a prior: traced without a loop, of torch's own log density."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.distributions as td
from torch import Tensor

from vi_dist import Model, random_variable
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.prepared import PreparedModel
from vi_dist.cluster.setup import Setup
from vi_dist.model.support import is_discrete
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density

N = 3


def _three(r: Tensor) -> Tensor:
    return torch.stack((r, 2 * r, r * r)).expand(N, 3)


# Of a positive parameter; the names are the classes, and what comes behind is how it is called.
KINDS: dict[str, Callable[[Tensor], td.Distribution]] = {
    "Bernoulli": lambda r: td.Bernoulli(r / (1 + r) * torch.ones(N)),
    "Bernoulli logits": lambda r: td.Bernoulli(logits=r * torch.ones(N)),
    "Beta": lambda r: td.Beta(r * torch.ones(N), 2.0),
    "Binomial": lambda r: td.Binomial(torch.tensor([3.0, 4.0, 5.0]), r / (1 + r) * torch.ones(N)),
    "Categorical": lambda r: td.Categorical(logits=_three(r)),
    "Cauchy": lambda r: td.Cauchy(r, torch.ones(N)),
    "Chi2": lambda r: td.Chi2(r * torch.ones(N)),
    "ContinuousBernoulli": lambda r: td.ContinuousBernoulli(r / (1 + r) * torch.ones(N)),
    "Dirichlet": lambda r: td.Dirichlet(r * torch.ones(N, 4)),
    "Exponential": lambda r: td.Exponential(r * torch.ones(N)),
    "FisherSnedecor": lambda r: td.FisherSnedecor(r * torch.ones(N), 3.0),
    "Gamma": lambda r: td.Gamma(r * torch.ones(N), 2.0),
    "GeneralizedPareto": lambda r: td.GeneralizedPareto(torch.zeros(N), r, -0.3),
    "Geometric": lambda r: td.Geometric(r / (1 + r) * torch.ones(N)),
    "Geometric logits": lambda r: td.Geometric(logits=r * torch.ones(N)),
    "Gumbel": lambda r: td.Gumbel(r, torch.ones(N)),
    "HalfCauchy": lambda r: td.HalfCauchy(r * torch.ones(N)),
    "HalfNormal": lambda r: td.HalfNormal(r * torch.ones(N)),
    "Independent": lambda r: td.Independent(td.Geometric(r / (1 + r) * torch.ones(N, 2)), 1),
    "InverseGamma": lambda r: td.InverseGamma(r * torch.ones(N), 2.0),
    "Kumaraswamy": lambda r: td.Kumaraswamy(r * torch.ones(N), 2.0),
    "LKJCholesky": lambda r: td.LKJCholesky(3, r * torch.ones(N)),
    "Laplace": lambda r: td.Laplace(r, torch.ones(N)),
    "LogNormal": lambda r: td.LogNormal(r, torch.ones(N)),
    "LogisticNormal": lambda r: td.LogisticNormal(r * torch.ones(N, 2), 1.0),
    "LowRankMultivariateNormal": lambda r: td.LowRankMultivariateNormal(
        torch.zeros(N, 4), r * torch.ones(4, 2), torch.ones(4)
    ),
    "MixtureSameFamily": lambda r: td.MixtureSameFamily(
        td.Categorical(torch.ones(N, 2)), td.Gamma(r * torch.tensor([1.0, 2.0]).expand(N, 2), 1.0)
    ),
    "MixtureSameFamily counts": lambda r: td.MixtureSameFamily(
        td.Categorical(torch.ones(N, 2)), td.Geometric(r / (1 + r) * torch.tensor([0.5, 0.9]).expand(N, 2))
    ),
    "MixtureSameFamily vectors": lambda r: td.MixtureSameFamily(
        td.Categorical(torch.ones(2)),
        td.MultivariateNormal(r * torch.tensor([[-1.0, 1.0], [0.0, 1.0]]), torch.eye(2)),
    ),
    "Multinomial": lambda r: td.Multinomial(6, logits=_three(r)),
    "MultivariateNormal": lambda r: td.MultivariateNormal(torch.zeros(N, 4), r * torch.eye(4)),
    "NegativeBinomial": lambda r: td.NegativeBinomial(r * torch.ones(N), 0.4),
    "Normal": lambda r: td.Normal(r, torch.ones(N)),
    "OneHotCategorical": lambda r: td.OneHotCategorical(logits=_three(r)),
    "OneHotCategoricalStraightThrough": lambda r: td.OneHotCategoricalStraightThrough(logits=_three(r)),
    "Pareto": lambda r: td.Pareto(torch.ones(N), r),
    "Poisson": lambda r: td.Poisson(r * torch.ones(N)),
    "RelaxedBernoulli": lambda r: td.RelaxedBernoulli(torch.tensor(0.7), r / (1 + r) * torch.ones(N)),
    "RelaxedOneHotCategorical": lambda r: td.RelaxedOneHotCategorical(torch.tensor(0.7), logits=_three(r)),
    "StudentT": lambda r: td.StudentT(r * torch.ones(N)),
    "TransformedDistribution": lambda r: td.TransformedDistribution(
        td.Normal(r, torch.ones(N)), td.AffineTransform(1.0, 2.0)
    ),
    "Uniform": lambda r: td.Uniform(torch.zeros(N), 10 + r),
    "VonMises": lambda r: td.VonMises(0.1 * torch.ones(N), r),
    "Weibull": lambda r: td.Weibull(r * torch.ones(N), 2.0),
    "Wishart": lambda r: td.Wishart(torch.tensor([5.0, 6.0, 7.0]), r * torch.eye(2)),
}
# Base classes, which have no density.
_ABSTRACT = {"Distribution", "ExponentialFamily"}


def test_no_distribution_is_left_out() -> None:
    known = {name for name in td.__all__ if isinstance(getattr(td, name), type)}
    known = {name for name in known if issubclass(getattr(td, name), td.Distribution)} - _ABSTRACT
    assert known == {name.split()[0] for name in KINDS}


def _model(kind: Callable[[Tensor], td.Distribution], value: Tensor | None) -> Model:
    @random_variable
    def r() -> td.Distribution:
        return td.Gamma(4.0, 3.0)

    @random_variable
    def x() -> td.Distribution:
        return kind(r())

    return Model([r(), x()], {}) if value is None else Model([r()], {x(): value})


def _drawn(kind: Callable[[Tensor], td.Distribution]) -> Tensor:
    torch.manual_seed(0)
    distribution = kind(torch.tensor(1.3))
    return distribution.mean if isinstance(distribution, td.Wishart) else distribution.sample()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("role", ["likelihood", "prior"])
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.filterwarnings("ignore:Singular sample")
def test_a_distribution_is_traced_and_has_torchs_own_density(
    name: str, role: str, dtype: torch.dtype
) -> None:
    kind = KINDS[name]
    value = _drawn(kind) if role == "likelihood" else None
    if value is None and is_discrete(kind(torch.tensor(1.3))):
        return
    build: Any = partial(_model, kind, value)
    prepared = PreparedModel(Setup(BuildSource(function=lambda: build())), dtype)
    joint = prepared.joint(jacobian=False)
    assert joint.mode == "flat", joint.reason
    rows = prepared.start + 0.2 * torch.tensor([[0.0], [1.0], [-1.0]], dtype=dtype)
    found, slope = joint.value_and_gradient(rows)
    assert slope.isfinite().all()
    density = Density(prepared.model, prepared.layout, jacobian=False)
    for row, log_joint in zip(rows, found, strict=True):
        with model_context(dtype):
            world = density.run(row, {})
            nodes = [world.get_variable(one) for one in (*world.latent_nodes, *prepared.model.observations)]
            expected = sum(node.distribution.log_prob(node.value.to(dtype)).sum() for node in nodes)
        tolerance = 1e-4 if dtype == torch.float32 else 1e-10
        torch.testing.assert_close(log_joint, expected, rtol=tolerance, atol=tolerance)
