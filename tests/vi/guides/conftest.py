"""What the tests of single guide families share: small posteriors of which the best guide is known, and a short fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Gamma,
    Independent,
    MultivariateNormal,
    Normal,
    StudentT,
)

from vi_dist.evaluation.evaluate import Evaluation, Evaluator
from vi_dist.model.decorators import random_variable
from vi_dist.model.model import Model
from vi_dist.vi.estimators import Estimator, reparam, stl
from vi_dist.vi.guides.family import Family
from vi_dist.vi.pack import PackProgram

F64 = torch.float64


def known(distribution: Distribution) -> Model:
    """A model whose posterior is this distribution."""

    @random_variable
    def x() -> Distribution:
        return distribution

    return Model([x()], {})


def correlated() -> Model:
    """Three strongly correlated Gaussians, not centred."""
    factor = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.5, 0.0], [-0.8, 0.6, 0.7]], dtype=F64)
    return known(MultivariateNormal(torch.tensor([0.5, -1.0, 0.2], dtype=F64), scale_tril=factor))


def one_factor() -> Model:
    """Four Gaussians that share one direction."""
    loading = torch.tensor([1.0, -0.8, 0.6, 1.2], dtype=F64)
    covariance = torch.outer(loading, loading) + torch.diag(torch.tensor([0.3, 0.5, 0.2, 0.4], dtype=F64))
    return known(MultivariateNormal(torch.zeros(4, dtype=F64), covariance))


def bimodal() -> Model:
    """The square of x is seen, its sign is not: modes at 3 and -3, and a prior median half way between."""

    @random_variable
    def x() -> Distribution:
        return Normal(torch.zeros((), dtype=F64), 4.0)

    @random_variable
    def seen() -> Distribution:
        return Normal(x() ** 2, 3.0)

    return Model([x()], {seen(): torch.tensor(9.0, dtype=F64)})


def heavy() -> Model:
    """Two independent Student-t variables of five degrees of freedom."""
    return known(
        Independent(
            StudentT(5.0, torch.tensor([0.3, -0.2], dtype=F64), torch.tensor([1.5, 0.4], dtype=F64)), 1
        )
    )


def gamma(shape: float, rate: float) -> Model:
    """A Gamma variable, whose coordinate is its logarithm."""
    return known(Gamma(torch.tensor(shape, dtype=F64), torch.tensor(rate, dtype=F64)))


def banana() -> Model:
    """y follows x^2: no Gaussian comes near."""

    @random_variable
    def x() -> Distribution:
        return Normal(torch.zeros((), dtype=F64), 1.0)

    @random_variable
    def y() -> Distribution:
        return Normal(x() ** 2, 0.5)

    return Model([x(), y()], {})


def normal_normal() -> tuple[Model, Tensor, Tensor, float]:
    """theta ~ Normal(0, 2) observed four times with sd 1.5: the model, posterior mean and sd, log evidence."""
    y = torch.tensor([1.0, 2.5, 0.2, 1.7], dtype=F64)

    @random_variable
    def theta() -> Distribution:
        return Normal(torch.zeros((), dtype=F64), 2.0)

    @random_variable
    def observed() -> Distribution:
        return Normal(theta().expand(4), 1.5)

    precision = torch.tensor(1 / 4 + 4 / 2.25, dtype=F64)
    covariance = 2.25 * torch.eye(4, dtype=F64) + 4.0
    evidence = MultivariateNormal(torch.zeros(4, dtype=F64), covariance).log_prob(y)
    model = Model([theta()], {observed(): y})
    return model, y.sum() / 2.25 / precision, precision.rsqrt(), float(evidence)


@pytest.fixture(scope="session")
def targets() -> SimpleNamespace:
    """The posteriors above; log Z is 0 where nothing is observed."""
    return SimpleNamespace(
        known=known,
        correlated=correlated,
        one_factor=one_factor,
        bimodal=bimodal,
        heavy=heavy,
        gamma=gamma,
        banana=banana,
        normal_normal=normal_normal,
    )


@dataclass(frozen=True)
class Fitted:
    """A guide after training: its settled family and leaves `(C, *shape)`, how good it is, and what ran."""

    family: Family
    leaves: dict[str, Tensor]
    params: Tensor
    evaluations: list[Evaluation]
    remarks: list[str]
    program: PackProgram

    @property
    def evaluation(self) -> Evaluation:
        return self.evaluations[0]

    @property
    def distribution(self) -> torch.distributions.Distribution:
        return self.family.distribution({name: leaf[0] for name, leaf in self.leaves.items()})


@pytest.fixture(scope="session")
def fit(engine: Callable[..., Any], column: Callable[..., Any]) -> Callable[..., Fitted]:
    """``fit(build, family, steps=400, rate=0.05, samples=8, seeds=(0,), **arguments)``; by stl, exact at q = p."""

    def run(
        build: Callable[[], Model],
        family: str,
        *,
        steps: int = 400,
        rate: float = 0.05,
        samples: int = 8,
        seeds: tuple[int, ...] = (0,),
        estimator: Estimator | None = None,
        draws: int = 2048,
        fields: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> Fitted:
        made = engine(build, family, **arguments)
        columns = [
            column(
                seed=seed,
                steps=steps,
                learning_rate=rate,
                estimator=estimator or (stl if made.family.has_density else reparam),
                schedule=("cosine", {"final": 0.01}),
                **(fields or {}),
            )
            for seed in seeds
        ]
        program = made.program(columns, samples=samples)
        state, _ = program.advance(program.start(), steps)
        params = program.model_params(state.params)
        leaves, remarks = made.family.settle(program.leaves(state.params), params, made.joint)
        settled = made.family.settled
        evaluations = Evaluator(made.joint.value, settled, draws)(leaves, params)
        return Fitted(settled, leaves, params, evaluations, remarks, program)

    return run
