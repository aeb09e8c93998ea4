"""Table B: every estimator of every divergence has the right expectation, against quadrature at q != p."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from vi_dist.errors import SpecError
from vi_dist.vi.divergences import (
    DIVERGENCES,
    Divergence,
    amari,
    as_divergence,
    dual,
    jensen_shannon,
    kl_forward,
    kl_reverse,
    modified_gan,
    pearson_chi2,
    symmetrised,
    total_variation,
)
from vi_dist.vi.estimators import (
    ESTIMATORS,
    Coefficients,
    Estimator,
    check_combination,
    choose,
    coefficients,
    dreg,
    iwae,
    log_mean_exp,
    reparam,
    score,
    select,
    self_normalised,
    slopes,
    stl,
    vr_iwae,
)
from vi_dist.vi.table import REQUIRED

F64 = torch.float64
# q's standard deviation must lie within 1 to 1.2 of p's, or second moments do not exist.
MEAN_Q, SD_Q, MEAN_P, SD_P, LOG_Z = 0.0, 1.12, 0.35, 1.0, 0.4
# An estimate this many standard errors off fails; the seeds are fixed.
SIGMAS = 4.5
REPLICATES = 60_000
ORDERS = (0.0, 0.3, 0.8)
BIASED = {"self_normalised"}
MULTI_SAMPLE = {"iwae", "dreg", "vr_iwae"}


def every_divergence() -> dict[str, Divergence]:
    """Every entry of the table, amari at several orders, and a user's own."""
    made = {name: entry.make() for name, entry in DIVERGENCES.items() if not entry.arguments}
    made |= {f"amari{alpha}": amari(alpha) for alpha in (-0.5, 0.0, 0.5, 0.99, 1.0, 2.0)}
    made |= {"dual_neyman": dual("neyman_chi2"), "symmetrised_pearson": symmetrised("pearson_chi2")}
    made["custom"] = as_divergence(lambda l: torch.expm1(-l / 3))
    return made


def every_estimator() -> dict[str, Estimator]:
    made = {name: entry.make() for name, entry in ESTIMATORS.items() if not entry.arguments}
    return made | {f"vr_iwae{order}": vr_iwae(order) for order in ORDERS}


ALL_DIVERGENCES, ALL_ESTIMATORS = every_divergence(), every_estimator()


def is_allowed(divergence: Divergence, estimator: Estimator) -> bool:
    try:
        check_combination(divergence, estimator)
    except SpecError:
        return False
    return True


PAIRS = [
    pytest.param(d, e, id=f"{e}-{d}")
    for e, estimator in ALL_ESTIMATORS.items()
    for d, divergence in ALL_DIVERGENCES.items()
    if estimator.name not in BIASED and is_allowed(divergence, estimator)
]


@dataclass(frozen=True)
class At:
    """Everything about points z of any shape: l, its slope in z, and the slopes of log q and log p in their params."""

    l: Tensor
    in_z: Tensor
    of_q: tuple[Tensor, Tensor]
    of_p: Tensor
    log_q: Tensor


def at(z: Tensor) -> At:
    standard_q, standard_p = (z - MEAN_Q) / SD_Q, (z - MEAN_P) / SD_P
    constant = 0.5 * math.log(2 * math.pi)
    log_q = -0.5 * standard_q**2 - math.log(SD_Q) - constant
    log_p = -0.5 * standard_p**2 - math.log(SD_P) - constant + LOG_Z
    return At(
        l=log_p - log_q,
        in_z=-standard_p / SD_P + standard_q / SD_Q,
        of_q=(standard_q / SD_Q, (standard_q**2 - 1) / SD_Q),
        of_p=standard_p / SD_P,
        log_q=log_q,
    )


def truth(divergence: Divergence, estimator: Estimator) -> list[float]:
    """The objective, its slopes in q's location and scale, and in p's mean, by quadrature over one or two samples."""
    if estimator.name in MULTI_SAMPLE:
        z = torch.linspace(-9.0, 9.0, 361, dtype=F64)
        here, there = at(z[:, None].expand(-1, 361)), at(z[None].expand(361, -1))
        weight = torch.exp(here.log_q + there.log_q) * (z[1] - z[0]) ** 2
        order = estimator.arguments[0] if estimator.arguments else None
        h, slope = objective_of_two(divergence, here.l, there.l, order)
        samples = 2  # alike, so that one stands for both
        q_parts = [h * (a + b) - samples * slope * a for a, b in zip(here.of_q, there.of_q, strict=True)]
        parts = [h, *q_parts, samples * slope * here.of_p]
    else:
        here = at(torch.linspace(-12.0, 12.0, 24001, dtype=F64))
        weight = torch.exp(here.log_q) * 0.001
        g, slope, _ = slopes(divergence, here.l)
        parts = [g, *((g - slope) * part for part in here.of_q), slope * here.of_p]
    return [float((weight * part).sum()) for part in parts]


def objective_of_two(
    divergence: Divergence, first: Tensor, second: Tensor, order: float | None
) -> tuple[Tensor, Tensor]:
    """The objective of two samples' l, and its slope in the first."""
    power = 1.0 if order is None else 1.0 - order
    bound = (torch.logaddexp(power * first, power * second) - math.log(2)) / power
    share = torch.sigmoid(power * (first - second))
    if order is not None:
        return -bound, -share
    value, slope, _ = slopes(divergence, bound)
    return value, slope * share


def estimate(divergence: Divergence, estimator: Estimator, samples: int, replicates: int) -> list[Tensor]:
    """Replicates of what `truth` computes."""
    noise = torch.randn(replicates, samples, generator=torch.Generator().manual_seed(1), dtype=F64)
    here = at(MEAN_Q + SD_Q * noise)
    made = estimator(here.l, divergence)
    of_loc = made.path * here.in_z + made.score * here.of_q[0]
    of_scale = made.path * here.in_z * noise + made.score * here.of_q[1]
    return [made.loss, of_loc.sum(-1), of_scale.sum(-1), (made.model * here.of_p).sum(-1)]


@pytest.mark.parametrize(("d", "e"), PAIRS)
def test_unbiased(d: str, e: str) -> None:
    divergence, estimator = ALL_DIVERGENCES[d], ALL_ESTIMATORS[e]
    samples = 2 if estimator.name in MULTI_SAMPLE else 3
    wanted = truth(divergence, estimator)
    made = estimate(divergence, estimator, samples, REPLICATES)
    for what, value, draws in zip(("loss", "loc", "scale", "model"), wanted, made, strict=True):
        error = float(draws.std()) / math.sqrt(REPLICATES)
        assert abs(float(draws.mean()) - value) <= SIGMAS * error + 1e-9, what
        # A wrong sign or a missing term would show: the error is small beside the slopes at hand.
        assert error < 0.04 * max(map(abs, wanted)), what


@pytest.mark.parametrize("d", [d for d, g in ALL_DIVERGENCES.items() if g.power is not None])
def test_self_normalised_is_consistent(d: str) -> None:
    """Its bias falls as 1/S, onto the slopes of log E[u^alpha] / (alpha (alpha - 1))."""
    alpha = ALL_DIVERGENCES[d].power
    here = at(torch.linspace(-12.0, 12.0, 24001, dtype=F64))
    weight = torch.softmax(here.log_q + alpha * here.l, 0)
    # d/d lambda of log E_q[u^alpha] is E[(1 - alpha) u^alpha d log q] / E[u^alpha]; at alpha = 0, as a limit.
    mean_l = (torch.softmax(here.log_q, 0) * here.l).sum()
    if alpha in (0.0, 1.0):
        terms = weight * ((here.l - mean_l) if alpha == 0 else torch.ones_like(here.l))
        wanted = [-float((terms * part).sum()) for part in here.of_q]
    else:
        wanted = [float((weight * part).sum()) * (1 - alpha) / (alpha * (alpha - 1)) for part in here.of_q]
    biases = []
    for samples, replicates in ((20, 40_000), (2_000, 400)):
        _, *made, _ = estimate(ALL_DIVERGENCES[d], self_normalised, samples, replicates)
        biases.append([float(part.mean()) - value for part, value in zip(made, wanted, strict=True)])
        error = [float(part.std()) / math.sqrt(replicates) for part in made]
        for bias, allowed in zip(biases[-1], error, strict=True):
            assert abs(bias) < SIGMAS * allowed + 3 / samples
            assert allowed < 0.02


@pytest.mark.parametrize("d", [d for d, g in ALL_DIVERGENCES.items() if g.power is not None])
def test_self_normalised_reports_a_renyi_divergence(d: str) -> None:
    """Whatever the scale of p: log(E[u^alpha] / E[u]^alpha) / (alpha (alpha - 1)) from the closed form for normals."""
    alpha = ALL_DIVERGENCES[d].power
    delta = MEAN_Q - MEAN_P
    if alpha == 0:
        wanted = math.log(SD_P / SD_Q) + (SD_Q**2 + delta**2) / (2 * SD_P**2) - 0.5
    elif alpha == 1:
        wanted = math.log(SD_Q / SD_P) + (SD_P**2 + delta**2) / (2 * SD_Q**2) - 0.5
    else:
        v2 = alpha * SD_Q**2 + (1 - alpha) * SD_P**2
        log_moment = (1 - alpha) * math.log(SD_P) + alpha * math.log(SD_Q) - 0.5 * math.log(v2)
        log_moment -= alpha * (1 - alpha) * delta**2 / (2 * v2)
        wanted = log_moment / (alpha * (alpha - 1))
    (loss, *_) = estimate(ALL_DIVERGENCES[d], self_normalised, 20_000, 50)
    error = float(loss.std()) / math.sqrt(50)
    assert abs(float(loss.mean()) - wanted) < SIGMAS * error + 1e-4
    assert error < 0.05 * wanted
    l = torch.tensor([[-1.0, 0.0, 2.0]], dtype=F64)
    shifted = self_normalised(l - 1e5, ALL_DIVERGENCES[d])
    torch.testing.assert_close(
        shifted.loss, self_normalised(l, ALL_DIVERGENCES[d]).loss, rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(
        shifted.path, self_normalised(l, ALL_DIVERGENCES[d]).path, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("scale", [1e2, 1e5])
def test_self_normalised_is_regular_at_any_scale(alpha: float, scale: float) -> None:
    l = scale * torch.linspace(-1.0, 1.0, 8, dtype=torch.float32)[None] - scale
    made = self_normalised(l, amari(alpha))
    assert bool(made.loss.isfinite().all())
    assert bool(made.path.isfinite().all())
    torch.testing.assert_close(made.path.sum(-1), torch.tensor([-1.0]))


def test_self_normalised_bears_a_sample_of_no_mass() -> None:
    l = torch.tensor([[-torch.inf, 0.0, 1.0]], dtype=F64)
    made = self_normalised(l, kl_forward)
    assert bool(made.loss.isfinite())
    assert made.path[0, 0] == 0


def test_centring_keeps_the_variance_of_amari_finite_near_one() -> None:
    """MATH.md: without the centring term the gradient's deviation is hundreds, with it a fraction of one."""
    alpha = 0.999
    bare = as_divergence(lambda l: torch.expm1(alpha * l) / (alpha * (alpha - 1)))
    with_term, without = (float(estimate(g, reparam, 1, 20_000)[1].std()) for g in (amari(alpha), bare))
    assert with_term < 1
    assert without > 100


@pytest.mark.parametrize("d", [d for d in ALL_DIVERGENCES if d != "custom"])
@pytest.mark.parametrize("e", ALL_ESTIMATORS)
def test_at_q_equal_p_only_the_plain_estimators_are_noisy(d: str, e: str) -> None:
    """l is log Z for every sample: the loss is g(log Z), stl and its kin have a path of slope 0, score no weight."""
    divergence, estimator = ALL_DIVERGENCES[d], ALL_ESTIMATORS[e]
    if not is_allowed(divergence, estimator):
        return
    made = estimator(torch.full((2, 5), LOG_Z, dtype=F64), divergence)
    expected = divergence(torch.tensor(LOG_Z, dtype=F64))
    if estimator.name == "vr_iwae":
        expected = torch.tensor(-LOG_Z, dtype=F64)
    if estimator.name == "self_normalised":
        expected = torch.tensor(0.0, dtype=F64)
    torch.testing.assert_close(made.loss, expected.expand(2), rtol=1e-12, atol=1e-14)
    (slope,) = slopes(divergence, torch.tensor([LOG_Z], dtype=F64))[1]
    if estimator.name in ("reparam", "mixed", "iwae"):  # the path is still, the score term is not
        assert bool((made.score.abs() > 1e-3 * slope.abs()).all()) == bool(slope != 0)
    else:
        torch.testing.assert_close(made.score, torch.zeros_like(made.score), rtol=0, atol=1e-15)


def test_score_of_the_reverse_kl_is_vargrad() -> None:
    """The gradient of half the sample variance of l at fixed z (arXiv 2010.10436)."""
    l = torch.randn(3, 6, dtype=F64).requires_grad_()
    (0.5 * l.var(-1).sum()).backward()
    assert l.grad is not None
    torch.testing.assert_close(score(l.detach(), kl_reverse).score, -l.grad)


def test_score_without_a_second_sample_has_no_baseline() -> None:
    l = torch.tensor([[0.7]], dtype=F64)
    assert float(score(l, kl_reverse).score) == pytest.approx(-0.7 + 1)


def test_the_baseline_of_a_sample_is_the_mean_over_the_others() -> None:
    l = torch.tensor([[0.1, -0.4, 1.3]], dtype=F64)
    g, slope, _ = slopes(kl_forward, l)
    reward = (g - slope)[0]
    wanted = [(reward[k] - (reward.sum() - reward[k]) / 2) / 3 for k in range(3)]
    torch.testing.assert_close(score(l, kl_forward).score[0], torch.stack(wanted))


@pytest.mark.parametrize("d", ALL_DIVERGENCES)
def test_one_sample_of_the_multi_sample_bounds(d: str) -> None:
    """With S = 1 they are their single-sample counterparts."""
    l = torch.tensor([[-0.6], [0.9]], dtype=F64)
    for many, one in ((iwae, reparam), (dreg, stl)):
        assert same(many(l, ALL_DIVERGENCES[d]), one(l, ALL_DIVERGENCES[d]))


def test_vr_iwae_of_order_zero_is_dreg_of_the_reverse_kl() -> None:
    l = torch.randn(4, 5, dtype=F64)
    assert same(vr_iwae(0.0)(l, kl_reverse), dreg(l, kl_reverse))


def same(first: Coefficients, second: Coefficients) -> bool:
    pairs = zip(vars(first).values(), vars(second).values(), strict=True)
    return all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in pairs)


def test_bounds_are_ordered() -> None:
    """ELBO <= VR-IWAE, growing as the order falls, <= importance-weighted bound <= log mean weight of everything."""
    l = torch.randn(50, 8, dtype=F64)
    bounds = [-reparam(l, kl_reverse).loss]
    bounds += [-vr_iwae(order)(l, kl_reverse).loss for order in (0.999, 0.8, 0.3, 0.0)]
    for lower, higher in pairwise(bounds):
        assert bool((lower < higher).all())
    torch.testing.assert_close(bounds[-1], log_mean_exp(l))
    assert float(bounds[-1].mean()) < float(log_mean_exp(l.reshape(1, -1)))


@pytest.mark.parametrize("e", ALL_ESTIMATORS)
def test_flags_and_shapes(e: str) -> None:
    estimator = ALL_ESTIMATORS[e]
    l = torch.randn(4, 3, dtype=F64)
    made = estimator(l, kl_forward)
    assert made.loss.shape == (4,)
    assert made.path.shape == made.score.shape == made.model.shape == (4, 3)
    assert bool((made.path != 0).any()) == estimator.uses_path
    assert bool((made.score != 0).any()) == estimator.uses_score
    assert not any(tensor.requires_grad for tensor in vars(made).values())


@pytest.mark.parametrize("e", ALL_ESTIMATORS)
def test_a_row_does_not_see_its_neighbours(e: str) -> None:
    l = torch.randn(4, 3, dtype=F64)
    l[2] = torch.nan
    made = ALL_ESTIMATORS[e](l, pearson_chi2)
    for row in (0, 1, 3):
        alone = ALL_ESTIMATORS[e](l[row : row + 1], pearson_chi2)
        for name, tensor in vars(made).items():
            torch.testing.assert_close(
                tensor[row : row + 1], vars(alone)[name], rtol=0, atol=1e-16, equal_nan=True
            )


def test_select_takes_rows() -> None:
    l = torch.randn(3, 2, dtype=F64)
    one, two = reparam(l, kl_reverse), score(l, kl_forward)
    mixed = select(torch.tensor([True, False, True]), one, two)
    for name, tensor in vars(mixed).items():
        assert torch.equal(tensor[[0, 2]], vars(one)[name][[0, 2]])
        assert torch.equal(tensor[1], vars(two)[name][1])


def test_coefficients_by_name() -> None:
    l = torch.randn(2, 3, dtype=F64, requires_grad=True)
    assert same(coefficients(l, kl_forward, "stl"), stl(l.detach(), kl_forward))
    assert same(coefficients(l, kl_reverse, "vr_iwae", order=0.3), vr_iwae(0.3)(l.detach(), kl_reverse))
    assert same(coefficients(l, lambda x: -x), reparam(l.detach(), kl_reverse))


@pytest.mark.parametrize(
    ("divergence", "options", "name"),
    [
        (kl_reverse, {}, "stl"),
        (jensen_shannon, {}, "stl"),
        (total_variation, {}, "reparam"),
        (kl_forward, {}, "self_normalised"),
        (amari(0.5), {}, "self_normalised"),
        (amari(0.0), {}, "stl"),
        (kl_reverse, {"reparameterised": False}, "score"),
        (kl_reverse, {"has_density": False}, "reparam"),
    ],
)
def test_auto_chooses(divergence: Divergence, options: dict[str, bool], name: str) -> None:
    assert choose(divergence, **options) == name
    check_combination(divergence, ESTIMATORS[name].make(), **options)


@pytest.mark.parametrize(
    ("divergence", "estimator", "options", "key"),
    [
        (total_variation, stl, {}, "estimator"),
        (total_variation, dreg, {}, "estimator"),
        (jensen_shannon, self_normalised, {}, "estimator"),
        (kl_reverse, reparam, {"reparameterised": False}, "estimator"),
        (kl_reverse, vr_iwae(0.5), {"reparameterised": False}, "estimator"),
        (kl_forward, vr_iwae(0.5), {}, "estimator"),
        (kl_forward, reparam, {"model_params": True}, "divergence"),
        (amari(2.0), stl, {"model_params": True}, "divergence"),
        (kl_reverse, self_normalised, {"model_params": True}, "divergence"),
        (kl_reverse, score, {"has_density": False}, "divergence"),
        (kl_forward, reparam, {"has_density": False}, "divergence"),
    ],
)
def test_what_would_train_the_wrong_thing_is_refused(
    divergence: Divergence, estimator: Estimator, options: dict[str, bool], key: str
) -> None:
    with pytest.raises(SpecError) as caught:
        check_combination(divergence, estimator, **options)
    assert caught.value.key == key
    assert estimator.name in str(caught.value) or divergence.name in str(caught.value)


@pytest.mark.parametrize(
    ("divergence", "estimator"),
    [
        (kl_reverse, stl),
        (kl_reverse, iwae),
        (modified_gan, reparam),
        (kl_reverse, vr_iwae(0.5)),
        (amari(0.0), score),
    ],
)
def test_bounds_on_the_evidence_may_train_the_model(divergence: Divergence, estimator: Estimator) -> None:
    check_combination(divergence, estimator, model_params=True)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_entries_make_what_they_name(name: str) -> None:
    entry = ESTIMATORS[name]
    arguments: dict[str, Any] = {
        k: a.low if a.default is REQUIRED else a.default for k, a in entry.arguments.items()
    }
    make: Callable[..., Estimator] = entry.make
    assert make(**arguments).name == name
    assert entry.description
