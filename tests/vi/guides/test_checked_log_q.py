"""log q for evaluation against arithmetic of 80 digits, where guides have scales that float64 cannot invert."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from vi_dist.vi.guides.family import Family
from vi_dist.vi.guides.low_rank import LowRank
from vi_dist.vi.guides.mixture import Mixture
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.noise import EVALUATION, NoiseSite, NoiseSpace, NormalSource

F64 = torch.float64
D = 40
SPACE = NoiseSpace((NoiseSite("x", D),))
# What "known to within a nat" allows.
NAT = 1.0


def noise_of(family: Family, samples: int) -> Tensor:
    return NormalSource(family.noise, [0], F64)(EVALUATION, torch.zeros(1, 1), samples)[0]


def chain(entry: float, size: int = D) -> Tensor:
    """Entries below the diagonal of I + N with `entry` beside it and 0 elsewhere: its inverse has entry^(size - 1)."""
    square = torch.zeros(size, size, dtype=F64)
    square[torch.arange(1, size), torch.arange(size - 1)] = entry
    return square[torch.ones(size, size).tril(-1).bool()]


def exact(number: Tensor) -> mpmath.mpf:
    return mpmath.mpf(float(number))


def true_log_q(leaves: dict[str, Tensor], family: Mixture, noise: Tensor) -> float:
    """log q of the draw that the noise `(E,)` makes under a full-rank mixture whose I + N are chains."""
    with mpmath.workdps(80):
        chosen = int(family._chosen(noise[None, None])[0, 0])
        e = [exact(one) for one in noise[:D]]
        raw, loc, lower = (leaves[name][0] for name in ("raw_scale", "loc", "lower"))
        scale = softplus(raw)
        beside = [exact(lower[k][-1]) if D > 1 else mpmath.mpf(0) for k in range(family.components)]
        mixed = [e[i] + (beside[chosen] * e[i - 1] if i else 0) for i in range(D)]
        z = [exact(loc[chosen][i]) + exact(scale[chosen][i]) * mixed[i] for i in range(D)]
        parts = []
        for k in range(family.components):
            before, square, log_det = mpmath.mpf(0), mpmath.mpf(0), mpmath.mpf(0)
            for i in range(D):
                before = (z[i] - exact(loc[k][i])) / exact(scale[k][i]) - beside[k] * before
                square += before**2
                log_det += mpmath.log(exact(scale[k][i]))
            parts.append(-square / 2 - log_det - D * mpmath.log(2 * mpmath.pi) / 2)
        top = max(parts)
        total = mpmath.log(sum(mpmath.exp(one - top) for one in parts) / family.components)
        return float(top + total)


def planted(entries: list[float], shift: float = 0.3) -> tuple[Mixture, dict[str, Tensor]]:
    """A full-rank mixture whose components have these chains, `shift` apart in every coordinate."""
    family = Mixture(SPACE, len(entries), full_rank=True)
    first = family.initial(torch.zeros(D, dtype=F64), 1.0)
    number = torch.arange(len(entries), dtype=F64)[:, None]
    leaves = {
        "loc": shift * number.expand(-1, D).clone(),
        "raw_scale": first["raw_scale"],
        "lower": torch.stack([chain(one) for one in entries]),
    }
    return family, {name: leaf[None] for name, leaf in leaves.items()}


@pytest.mark.parametrize(
    ("entries", "known"),
    [
        ([0.0, 0.3], True),
        ([0.5, -0.9], True),
        ([1.5, 1.2], True),  # 1.5^39 is 7e6: a hard solve that float64 still does
        ([0.5, 3.0], False),  # 3^39 is 4e18
        ([10.0, 10.5], False),
        ([-30.0, 0.2], False),
    ],
)
def test_a_mixture_s_log_q_is_right_to_a_nat_or_no_number(entries: list[float], known: bool) -> None:
    family, leaves = planted(entries)
    noise = noise_of(family, 40)
    found = family.checked_log_q(leaves, noise, family.draw(leaves, noise))[0]
    truth = torch.tensor([true_log_q(leaves, family, row) for row in noise[0]], dtype=F64)
    sure = ~found.isnan()
    assert bool((found - truth)[sure].abs().le(NAT).all())
    assert bool(sure.all()) == known
    if known:
        torch.testing.assert_close(found, truth, rtol=1e-6, atol=1e-6)
    else:
        solved = family.log_prob(leaves, family.draw(leaves, noise))[0]
        assert float((solved - truth).abs().max()) > 100 * NAT  # what was taken for an ELBO


def test_components_far_apart_are_known_whatever_the_other_s_solve_says() -> None:
    family, leaves = planted([1.4, 1.4], shift=1e3)
    noise = noise_of(family, 20)
    found = family.checked_log_q(leaves, noise, family.draw(leaves, noise))[0]
    truth = torch.tensor([true_log_q(leaves, family, row) for row in noise[0]], dtype=F64)
    torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-9)


def test_a_location_beyond_float64_s_digits_is_no_number() -> None:
    """At 1e18 numbers are 128 apart: which component made a draw of scale 1 can no longer be told."""
    family = Mixture(SPACE, 2)
    first = family.initial(torch.zeros(D, dtype=F64), 1.0)
    leaves = {"loc": torch.full((1, 2, D), 1e18, dtype=F64), "raw_scale": first["raw_scale"][None]}
    noise = noise_of(family, 20)
    assert bool(family.checked_log_q(leaves, noise, family.draw(leaves, noise)).isnan().all())


@pytest.mark.parametrize("size", [1.0, 1e4, 1e6, 1e9])
def test_a_low_rank_log_q_is_right_to_a_nat_or_no_number(size: float) -> None:
    """The quadratic form of y = e + F h is |y|^2 less all but 40 of it: at |F| = 1e9 naive float64 keeps no digit."""
    rank, d = 3, 12
    family = LowRank(NoiseSpace((NoiseSite("x", d),)), rank)
    factor = size * torch.randn(d, rank, dtype=F64, generator=torch.Generator().manual_seed(0))
    first = family.initial(torch.zeros(d, dtype=F64), 1.0)
    leaves = {name: leaf[None] for name, leaf in {**first, "factor": factor}.items()}
    noise = noise_of(family, 10)
    found = family.checked_log_q(leaves, noise, family.draw(leaves, noise))[0]
    with mpmath.workdps(80):
        f = mpmath.matrix(factor.tolist())
        covariance = f * f.T + mpmath.eye(d)
        log_det = mpmath.log(mpmath.det(covariance)) / 2
        scales = mpmath.fsum(mpmath.log(exact(s)) for s in softplus(first["raw_scale"]))
        truth = []
        for row in noise[0]:
            e, h = mpmath.matrix(row[:d].tolist()), mpmath.matrix(row[d:].tolist())
            y = e + f * h
            square = (y.T * mpmath.lu_solve(covariance, y))[0]
            truth.append(float(-square / 2 - log_det - scales - d * mpmath.log(2 * mpmath.pi) / 2))
    difference = (found - torch.tensor(truth, dtype=F64)).abs()
    assert bool((difference.isnan() | (difference <= NAT)).all())
    assert bool(difference.isnan().any()) == (size >= 1e8)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("full_rank", {}),
        ("full_rank", {"whiten": True}),
        ("student_t", {"full_rank": True, "df": 5.0}),
        ("structured", {"rank": 1, "blocks": ""}),
        ("maf", {}),
        ("nsf", {}),
    ],
)
def test_what_the_noise_says_of_a_draw_needs_no_inverse(name: str, arguments: dict[str, object]) -> None:
    """I + N has determinant 1, so N moves draws and no log q; by solves with it log q of a draw is nonsense."""
    family = GUIDES[name].make(SPACE, **arguments)
    first = {leaf: value[None] for leaf, value in family.initial(torch.zeros(D, dtype=F64), 1.0).items()}
    noise = noise_of(family, 30)
    tame = family.checked_log_q(first, noise, family.draw(first, noise))
    torch.testing.assert_close(tame, family.log_prob(first, family.draw(first, noise)), rtol=1e-9, atol=1e-9)
    wild = {**first, "lower": chain(4.0)[None]}
    z = family.draw(wild, noise)
    torch.testing.assert_close(family.checked_log_q(wild, noise, z), tame, rtol=1e-12, atol=1e-12)
    assert not bool((family.log_prob(wild, z) - tame).abs().max() < NAT)


def test_a_laplace_approximation_s_log_q_needs_no_inverse() -> None:
    family = GUIDES["laplace"].make(SPACE).settled
    loc = torch.zeros(1, D, dtype=F64)
    root = torch.eye(D, dtype=F64)
    root[torch.ones(D, D).tril(-1).bool()] = chain(4.0)
    leaves, noise = {"loc": loc, "scale_tril": root[None]}, noise_of(family, 30)
    expected = -0.5 * noise.square().sum(-1) - 0.5 * D * math.log(2 * math.pi)
    z = family.draw(leaves, noise)
    torch.testing.assert_close(family.checked_log_q(leaves, noise, z), expected, rtol=1e-12, atol=1e-12)
    assert not bool((family.log_prob(leaves, z) - expected).abs().max() < NAT)
