"""The common evaluation against closed forms, on common noise, whatever it is evaluated with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Gamma, HalfCauchy, Normal, kl_divergence

from vi_dist.evaluation import evaluate
from vi_dist.evaluation.evaluate import Evaluation, Evaluator, summarise
from vi_dist.evaluation.pareto import pareto_khat
from vi_dist.model.decorators import param, random_variable
from vi_dist.model.model import Model
from vi_dist.vi.columns import Column
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density
from vi_dist.vi.divergences import kl_reverse
from vi_dist.vi.estimators import stl
from vi_dist.vi.guides.family import Family
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.layout import Layout, make_layout
from vi_dist.vi.optimizers import OPTIMIZERS
from vi_dist.vi.pack import PackProgram
from vi_dist.vi.trace import JointProgram, trace_joint

F64 = torch.float64
# An estimate this many standard errors off fails; the noise is always the same.
SIGMAS = 4.5


def rv(name: str, function: Callable[[], Any]) -> Any:
    function.__name__ = name
    return random_variable(function)


@dataclass(frozen=True)
class Prepared:
    """A model in float64 with a guide family."""

    layout: Layout
    joint: JointProgram
    family: Family


def prepare(build: Callable[[], Model], family: str) -> Prepared:
    with model_context(F64):
        model = build()
        layout = make_layout(model)
        made = GUIDES[family].make(layout.noise)
        joint = trace_joint(Density(model, layout), dtype=F64)
    return Prepared(layout, joint, made)


MEAN, DEVIATION, LOG_Z = 1.0, math.sqrt(0.5), -0.25 * 2.0**2 - 0.5 * math.log(4 * math.pi)


def normal_normal() -> Model:
    """theta ~ N(0, 1), y = 2 ~ N(theta, 1): posterior N(1, 1/2)."""
    theta = rv("theta", lambda: Normal(0.0, 1.0))
    y = rv("y", lambda: Normal(theta(), 1.0))
    return Model([theta()], {y(): torch.tensor(2.0)})


def eight_schools() -> Model:
    scale = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18])
    mu = rv("mu", lambda: Normal(0.0, 5.0))
    tau = rv("tau", lambda: HalfCauchy(5.0))
    eta = rv("eta", lambda: Normal(torch.zeros(8), 1.0))
    y = rv("y", lambda: Normal(mu() + tau() * eta(), scale))
    return Model([mu(), tau(), eta()], {y(): torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12])})


def guides(means: list[float], deviations: list[float], size: int = 1) -> dict[str, Tensor]:
    loc, scale = torch.tensor(means, dtype=F64), torch.tensor(deviations, dtype=F64)
    return {
        "loc": loc[:, None].expand(-1, size).clone(),
        "raw_scale": torch.log(torch.expm1(scale))[:, None].expand(-1, size).clone(),
    }


def nothing(columns: int) -> Tensor:
    return torch.zeros(columns, 0, dtype=F64)


MEANS, DEVIATIONS = [1.0, 0.8, 1.0, -0.5, 1.3], [0.7, 0.7, 0.9, 0.8, 0.4]


def test_elbo_is_log_z_minus_the_divergence() -> None:
    made = prepare(normal_normal, "mean_field")
    found = Evaluator(made.joint.value, made.family, 4096)(guides(MEANS, DEVIATIONS), nothing(5))
    posterior = Normal(torch.tensor(MEAN, dtype=F64), torch.tensor(DEVIATION, dtype=F64))
    for one, mean, deviation in zip(found, MEANS, DEVIATIONS, strict=True):
        q = Normal(torch.tensor(mean, dtype=F64), torch.tensor(deviation, dtype=F64))
        exact = LOG_Z - float(kl_divergence(q, posterior))
        assert one.samples == 4096
        assert abs(one.elbo - exact) < SIGMAS * one.elbo_se
        # l is quadratic in the noise, a + b e + c e^2: its variance is b^2 + 2 c^2.
        b = deviation * (MEAN - mean) / DEVIATION**2
        c = 0.5 - 0.5 * (deviation / DEVIATION) ** 2
        assert one.elbo_se * 64 == pytest.approx(math.sqrt(b * b + 2 * c * c), rel=0.1)
        assert one.elbo <= one.iw_elbo


def test_the_importance_weighted_bound_lies_between_elbo_and_evidence() -> None:
    """For exact values; the estimate of all samples may pass log Z by its own noise."""
    made = prepare(normal_normal, "mean_field")
    weights = Evaluator(made.joint.value, made.family, 4096).log_weights(
        guides(MEANS, DEVIATIONS), nothing(5)
    )
    for row in weights:
        before = float(row.mean())
        for size in (4, 64, 1024):
            groups = torch.logsumexp(row.reshape(-1, size), -1) - math.log(size)
            bound, error = float(groups.mean()), float(groups.std()) / math.sqrt(len(groups))
            assert before < bound < LOG_Z + SIGMAS * error
            before = bound
        assert summarise(row).iw_elbo >= before


def test_an_exact_guide_has_no_error() -> None:
    made = prepare(normal_normal, "mean_field")
    (found,) = Evaluator(made.joint.value, made.family, 500)(guides([MEAN], [DEVIATION]), nothing(1))
    assert found.elbo == pytest.approx(LOG_Z, abs=1e-12)
    assert found.iw_elbo == pytest.approx(LOG_Z, abs=1e-12)
    assert found.elbo_se < 1e-15
    assert found.khat == -math.inf


def spread(made: Prepared, columns: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = made.family.initial(made.layout.loc)
    return {
        k: v + 0.2 * torch.randn(columns, *v.shape, generator=generator, dtype=F64) for k, v in first.items()
    }


@pytest.mark.parametrize("family", ["mean_field", "full_rank"])
def test_neither_company_nor_the_split_into_batches_matters(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prepare(eight_schools, family)
    leaves = spread(made, 7)
    evaluator = Evaluator(made.joint.value, made.family, 300)
    together = evaluator.log_weights(leaves, nothing(7))
    for row in (0, 4):
        alone = evaluator.log_weights({k: v[row : row + 1] for k, v in leaves.items()}, nothing(1))
        torch.testing.assert_close(alone[0], together[row], rtol=1e-12, atol=1e-12)
    for rows in (1, 70, 10_000):
        monkeypatch.setattr(evaluate, "ROWS", rows)
        torch.testing.assert_close(
            evaluator.log_weights(leaves, nothing(7)), together, rtol=1e-12, atol=1e-12
        )


def test_every_guide_meets_the_same_noise() -> None:
    made = prepare(normal_normal, "mean_field")
    evaluator = Evaluator(made.joint.value, made.family, 50)
    first, second = evaluator(guides([0.3, 0.3], [0.5, 0.5]), nothing(2))
    assert first == second
    assert first == Evaluator(made.joint.value, made.family, 50)(guides([0.3], [0.5]), nothing(1))[0]
    shorter = Evaluator(made.joint.value, made.family, 20).log_weights(guides([0.3], [0.5]), nothing(1))
    assert torch.equal(shorter, evaluator.log_weights(guides([0.3], [0.5]), nothing(1))[:, :20])


def test_common_noise_makes_differences_sharper_than_their_parts() -> None:
    """Two guides that differ little are told apart far below the standard error of either."""
    made = prepare(normal_normal, "mean_field")
    one, two = Evaluator(made.joint.value, made.family, 1000)(guides([0.5, 0.501], [0.5, 0.5]), nothing(2))
    exact = ((0.5 - MEAN) ** 2 - (0.501 - MEAN) ** 2) / (2 * DEVIATION**2)
    assert two.elbo - one.elbo == pytest.approx(exact, rel=0.1)
    assert exact < 0.1 * one.elbo_se


def test_single_precision_fits_are_evaluated_in_double() -> None:
    made = prepare(normal_normal, "mean_field")
    leaves = {k: v.float() for k, v in guides([0.3], [0.5]).items()}
    evaluator = Evaluator(made.joint.value, made.family, 50)
    weights = evaluator.log_weights(leaves, nothing(1).float())
    assert weights.dtype == F64
    assert torch.equal(weights, evaluator.log_weights({k: v.double() for k, v in leaves.items()}, nothing(1)))


def test_a_guide_without_density_has_no_elbo() -> None:
    made = prepare(normal_normal, "delta")
    found = Evaluator(made.joint.value, made.family, 50)({"loc": torch.zeros(2, 1, dtype=F64)}, nothing(2))
    assert len(found) == 2
    assert all(math.isnan(value) for one in found for value in (one.elbo, one.elbo_se, one.iw_elbo, one.khat))


def test_a_diverged_guide_is_nan_and_harms_nobody() -> None:
    made = prepare(eight_schools, "full_rank")
    leaves = spread(made, 3)
    evaluator = Evaluator(made.joint.value, made.family, 100)
    clean = evaluator(leaves, nothing(3))
    for leaf in leaves.values():
        leaf[1] = math.nan
    spoiled = evaluator(leaves, nothing(3))
    assert spoiled[0] == clean[0]
    assert spoiled[2] == clean[2]
    assert all(math.isnan(value) for value in (spoiled[1].elbo, spoiled[1].iw_elbo, spoiled[1].khat))


def test_the_model_s_own_params_are_used() -> None:
    def model() -> Model:
        eta = param(lambda: torch.tensor(0.0))
        x = rv("x", lambda: Normal(eta(), 1.0))
        return Model([x()], {})

    made = prepare(model, "mean_field")
    etas = torch.tensor([[0.0], [3.0]], dtype=F64)
    found = Evaluator(made.joint.value, made.family, 100)(guides([0.0, 3.0], [1.0, 1.0]), etas)
    assert [one.elbo for one in found] == pytest.approx([0.0, 0.0], abs=1e-12)
    (off,) = Evaluator(made.joint.value, made.family, 4000)(guides([0.0], [1.0]), etas[1:])
    assert abs(off.elbo + 4.5) < SIGMAS * off.elbo_se


def test_the_density_is_that_of_the_unconstrained_coordinates() -> None:
    """A log-normal guide of a Gamma: the ELBO with the Jacobian, from moments in closed form."""
    a, b, mean, deviation = 3.0, 2.0, 0.2, 0.5

    def model() -> Model:
        return Model([rv("x", lambda: Gamma(a, b))()], {})

    made = prepare(model, "mean_field")
    (found,) = Evaluator(made.joint.value, made.family, 4096)(guides([mean], [deviation]), nothing(1))
    exact = a * math.log(b) - math.lgamma(a) + a * mean - b * math.exp(mean + deviation**2 / 2)
    exact += math.log(deviation) + 0.5 * math.log(2 * math.pi * math.e)
    assert abs(found.elbo - exact) < SIGMAS * found.elbo_se


def test_summaries_are_of_the_weights() -> None:
    weights = torch.randn(1000, dtype=F64) * 0.4 - 100
    found = summarise(weights)
    expected = Evaluation(
        elbo=float(weights.mean()),
        elbo_se=float(weights.std()) / math.sqrt(1000),
        iw_elbo=math.log(float((weights + 100).exp().mean())) - 100,
        khat=pareto_khat(weights.numpy()),
        samples=1000,
    )
    assert found == replace(expected, iw_elbo=found.iw_elbo)
    assert found.iw_elbo == pytest.approx(expected.iw_elbo, abs=1e-12)


# The evidence of eight schools and the best ELBO of mean-field and full-rank Gaussians, by long runs elsewhere.
EVIDENCE, BEST = -31.311, {"mean_field": -31.604, "full_rank": -31.541}


@pytest.mark.parametrize("family", ["mean_field", "full_rank"])
def test_eight_schools_reaches_the_best_known_elbo(family: str) -> None:
    made = prepare(eight_schools, family)
    defaults = {name: argument.default for name, argument in OPTIMIZERS["adam"].arguments.items()}
    column = Column(0, 500, 0.05, kl_reverse, stl, defaults, ("cosine", {}))
    program = PackProgram(made.joint, made.layout, made.family, OPTIMIZERS["adam"].make(), 16, [column])
    state, _ = program.advance(program.start(), 500)
    (found,) = Evaluator(made.joint.value, made.family)(
        program.leaves(state.params), program.model_params(state.params)
    )
    assert (
        abs(found.elbo - BEST[family]) < SIGMAS * found.elbo_se + 0.08
    )  # what 500 steps of 16 samples leave
    # Weights with such tails leave the log of their mean this uncertain.
    assert found.elbo < found.iw_elbo < EVIDENCE + 0.25
    assert found.khat < 1
