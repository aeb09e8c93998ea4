"""Every divergence of the table against its textbook f(u), evaluated with 60 digits, and its promises at the edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vi_dist.vi.columns import LIMITS
from vi_dist.vi.divergences import (
    DIVERGENCES,
    Divergence,
    amari,
    as_divergence,
    bounds_evidence,
    dual,
    jensen_shannon,
    kl_forward,
    kl_reverse,
    softplus,
    symmetrised,
)
from vi_dist.vi.estimators import slopes
from vi_dist.vi.table import REQUIRED

F64 = torch.float64
ALPHAS = (-1.0, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "amari": [{"alpha": alpha} for alpha in ALPHAS],
    "dual": [
        {"of": of} for of in ("kl_forward", "pearson_chi2", "neyman_chi2", "modified_gan", "triangular")
    ],
    "symmetrised": [{"of": of} for of in ("kl_reverse", "pearson_chi2", "neyman_chi2", "modified_gan")],
}

log, exp, sqrt = mpmath.log, mpmath.exp, mpmath.sqrt


def amari_f(u: Any, alpha: float) -> Any:
    if alpha == 0:
        return -log(u)
    if alpha == 1:
        return u * log(u) - (u - 1)
    a = mpmath.mpf(alpha)
    return (u**a - 1 - a * (u - 1)) / (a * (a - 1))


# f(u) as in the literature, times the multiple and plus the constant that MATH.md states.
TEXTBOOK: dict[str, Callable[..., Any]] = {
    "kl_reverse": lambda u: -log(u),
    "kl_forward": lambda u: u * log(u),
    "amari": amari_f,
    "pearson_chi2": lambda u: (u - 1) ** 2,
    "neyman_chi2": lambda u: (1 - u) ** 2 / u - (u - 1),  # E[u - 1] = 0
    "squared_hellinger": lambda u: (sqrt(u) - 1) ** 2,
    "total_variation": lambda u: abs(u - 1) / 2,
    "jensen_shannon": lambda u: u * log(2 * u / (1 + u)) + log(2 / (1 + u)) - (1 + u) * log(2),
    "jeffreys": lambda u: (u * log(u) - log(u)) / 2,
    "triangular": lambda u: (u - 1) ** 2 / (u + 1),
    "arithmetic_geometric": lambda u: (1 + u) * log((1 + u) / (2 * sqrt(u))) + (1 + u) * log(2),
    "modified_gan": lambda u: log(1 + 1 / u),
    "dual": lambda u, of: u * TEXTBOOK[of](1 / u),
    "symmetrised": lambda u, of: (TEXTBOOK[of](u) + u * TEXTBOOK[of](1 / u)) / 2,
}


def cases() -> list[Any]:
    """Every entry of the table, once for every set of arguments worth trying."""
    found = []
    for name, entry in DIVERGENCES.items():
        defaults = {k: a.default for k, a in entry.arguments.items() if a.default is not REQUIRED}
        for arguments in ARGUMENTS.get(name, [defaults]):
            label = "-".join([name, *map(str, arguments.values())])
            found.append(pytest.param(name, arguments, id=label))
    return found


every = pytest.mark.parametrize(("name", "arguments"), cases())


def exact(name: str, arguments: dict[str, float], points: Tensor, order: int) -> Tensor:
    """The order-th derivative in l of f(e^l), from 60 digits."""
    with mpmath.workdps(60):
        f = TEXTBOOK[name]
        values = [
            mpmath.diff(
                lambda x: f(exp(x), **arguments), mpmath.mpf(float(l)), order, h=mpmath.mpf(10) ** -15
            )
            for l in points
        ]
        return torch.tensor([float(value) for value in values], dtype=F64)


@every
@pytest.mark.parametrize("order", [0, 1, 2])
def test_value_and_slopes_are_the_textbook_s(name: str, arguments: dict[str, float], order: int) -> None:
    divergence = DIVERGENCES[name].make(**arguments)
    points = torch.tensor([-60.0, -7.0, -1.3, -1e-3, 1e-3, 0.4, 2.0, 6.0, 29.5, 30.5, 60.0], dtype=F64)
    wanted = exact(name, arguments, points, order)
    # Terms of the size of u to the largest power cancel, to within their own rounding.
    power = max(1.0, abs(divergence.power)) if divergence.power is not None else 1.0
    rounding = 1e-14 * torch.exp(power * points).clamp(1.0)
    error = (slopes(divergence, points)[order] - wanted).abs()
    assert bool((error <= 1e-11 * wanted.abs() + rounding).all()), error


@every
def test_l_of_any_shape(name: str, arguments: dict[str, float]) -> None:
    divergence = DIVERGENCES[name].make(**arguments)
    l = torch.linspace(-2, 2, 6, dtype=F64)
    assert torch.equal(divergence(l.reshape(2, 1, 3)), divergence(l).reshape(2, 1, 3))
    assert divergence(l[0]).shape == ()
    assert divergence(l.float()).dtype == torch.float32


@every
@given(l=st.floats(-300, 300))
def test_convexity(name: str, arguments: dict[str, float], l: float) -> None:
    """g' - g'' = -u^2 f''(u) is never positive; a form that overflows early shows here too."""
    _, first, second = slopes(DIVERGENCES[name].make(**arguments), torch.tensor([l], dtype=F64))
    assert bool(first.isfinite() & second.isfinite())
    assert float(first - second) <= 1e-14 * float(first.abs() + second.abs() + 1)


@every
def test_e_q_of_g_is_the_divergence_of_two_normals(name: str, arguments: dict[str, float]) -> None:
    """By quadrature against closed forms where there are some, and never below its value at q = p."""
    divergence = DIVERGENCES[name].make(**arguments)
    x = torch.linspace(-15, 15, 20001, dtype=F64)
    mean, sd = 0.3, 1.2
    log_q = -0.5 * (x / sd) ** 2 - math.log(sd) - 0.5 * math.log(2 * math.pi)
    log_p = -0.5 * (x - mean) ** 2 - 0.5 * math.log(2 * math.pi)
    value = float(torch.trapezoid(log_q.exp() * divergence(log_p - log_q), x))
    assert value > float(divergence(torch.zeros((), dtype=F64)))
    power = divergence.power
    if power is None:
        return
    reverse = 0.5 * (sd**2 + mean**2 - 1) - math.log(sd)
    forward = 0.5 * ((1 + mean**2) / sd**2 - 1) + math.log(sd)
    v2 = power * sd**2 + (1 - power)
    moment = sd**power / math.sqrt(v2) * math.exp(-power * (1 - power) * mean**2 / (2 * v2))
    closed = {
        "kl_reverse": reverse,
        "kl_forward": forward,
        "pearson_chi2": moment - 1,
        "neyman_chi2": moment - 1,
        "squared_hellinger": 2 - 2 * moment,
    }
    if name == "dual":
        closed["dual"] = reverse if power == 0 else moment - 1
    if name == "amari":
        closed["amari"] = {0.0: reverse, 1.0: forward}.get(power) or (moment - 1) / (power * (power - 1))
    assert value == pytest.approx(closed[name], rel=1e-9)


@every
def test_flags_say_what_the_function_does(name: str, arguments: dict[str, float]) -> None:
    divergence = DIVERGENCES[name].make(**arguments)
    _, first, _ = slopes(divergence, torch.linspace(-20, 20, 4001, dtype=F64))
    assert bounds_evidence(divergence) == bool((first <= 0).all())
    near = slopes(divergence, torch.tensor([-1e-9, 1e-9], dtype=F64))[1]
    assert divergence.kinked == bool((near[1] - near[0]).abs() > 1e-3)
    assert ("kinked" in DIVERGENCES[name].traits) == divergence.kinked


@every
def test_the_power_is_that_of_the_family(name: str, arguments: dict[str, float]) -> None:
    """g is an affine combination of u^power (or its limit), u and 1 exactly when it says so."""
    divergence = DIVERGENCES[name].make(**arguments)
    l = torch.linspace(-1, 1, 101, dtype=F64)
    powers = ALPHAS if divergence.power is None else (divergence.power,)
    for power in powers:
        term = {0.0: l, 1.0: l * torch.exp(l)}.get(power, torch.exp(power * l))
        basis = torch.stack((term, torch.exp(l), torch.ones_like(l)), -1)
        fitted = basis @ torch.linalg.lstsq(basis, divergence(l)).solution
        fits = bool((fitted - divergence(l)).abs().max() < 1e-10)
        assert fits == (divergence.power is not None)


@every
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_slopes_can_be_squared_up_to_the_limit(
    name: str, arguments: dict[str, float], dtype: torch.dtype
) -> None:
    """A gradient's norm and Adam do; with room for a model's own slopes, up to a thousand."""
    divergence = DIVERGENCES[name].make(**arguments)
    limit = LIMITS[dtype] / divergence.growth
    made = slopes(divergence, torch.tensor([-limit, -limit / 2, limit / 2, limit], dtype=dtype))
    assert all(bool((1e3 * part).square().isfinite().all()) for part in made)


@pytest.mark.parametrize(
    ("divergence", "growth"),
    [
        (DIVERGENCES["kl_reverse"].make(), 1),
        (DIVERGENCES["pearson_chi2"].make(), 2),
        (DIVERGENCES["amari"].make(-2.0), 2),
        (DIVERGENCES["amari"].make(0.5), 1),
        (dual("neyman_chi2"), 2),
        (symmetrised("pearson_chi2"), 2),
        (symmetrised(DIVERGENCES["amari"].make(3.0)), 3),
    ],
)
def test_how_steep_they_are(divergence: Divergence, growth: float) -> None:
    assert divergence.growth == growth
    far = torch.tensor([-60.0, 60.0], dtype=F64)
    assert 0.9 * growth < float(divergence(far).abs().log().max()) / 60 < 1.1 * growth or growth == 1


# Where the literal form has neither value nor slope left to overflow: MATH.md, "Overflow", promises no more than this.
AT_MINUS_INFINITY = {"kl_reverse", "kl_forward", "pearson_chi2", "squared_hellinger", "total_variation",
                     "jensen_shannon", "jeffreys", "triangular", "arithmetic_geometric", "modified_gan"}  # fmt: skip


@pytest.mark.parametrize("name", sorted(AT_MINUS_INFINITY))
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_far_below_nothing_overflows(name: str, dtype: torch.dtype) -> None:
    made = slopes(DIVERGENCES[name].make(), torch.tensor([-1e5, -800.0], dtype=dtype))
    assert all(bool(part.isfinite().all()) for part in made)


@pytest.mark.parametrize("name", ["jensen_shannon", "modified_gan", "kl_reverse"])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_far_above_nothing_overflows(name: str, dtype: torch.dtype) -> None:
    made = slopes(DIVERGENCES[name].make(), torch.tensor([30.0, 31.0, 88.0, 800.0, 1e5], dtype=dtype))
    assert all(bool(part.isfinite().all()) for part in made)


def test_jensen_shannon_joins_its_two_branches() -> None:
    around = torch.tensor([30 - 1e-9, 30 + 1e-9], dtype=F64)
    for part in slopes(jensen_shannon, around):
        assert abs(float(part[1] - part[0])) < 1e-8


def test_one_tensor_of_alphas_serves_a_whole_pack() -> None:
    """Every row has its own alpha, and an overflow in one branch is no NaN in another."""
    alphas = torch.tensor(ALPHAS, dtype=F64)[:, None]
    l = torch.tensor([-1e5, -800.0, -2.0, 0.0, 3.0, 800.0, 1e5], dtype=F64).expand(len(ALPHAS), -1)
    rows = slopes(Divergence("amari", amari(0).function, (alphas,)), l)
    for row, alpha in enumerate(ALPHAS):
        for part, alone in zip(rows, slopes(amari(alpha), l[row]), strict=True):
            torch.testing.assert_close(part[row], alone, rtol=0, atol=0, equal_nan=True)
    for alpha in (0.0, 1.0, 0.5):
        row = ALPHAS.index(alpha)
        assert not any(bool(part[row, :5].isnan().any()) for part in rows)
    assert rows[1][ALPHAS.index(0.0)].tolist() == [-1.0] * l.shape[1]
    assert rows[2][ALPHAS.index(0.0)].tolist() == [0.0] * l.shape[1]


def centred(alpha: float, l: Tensor) -> tuple[Tensor, ...]:
    """g and its slopes with the centring term, which order 0 alone does without; its expectation is a constant."""
    centring = 1.0 if alpha == 0 else 0.0
    return tuple(
        part + centring * term
        for part, term in zip(
            slopes(amari(alpha), l), (torch.expm1(l), torch.exp(l), torch.exp(l)), strict=True
        )
    )


@pytest.mark.parametrize("limit", [0.0, 1.0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_amari_tends_to_its_limits(limit: float, sign: int) -> None:
    l = torch.linspace(-3, 3, 25, dtype=F64)
    for near, at in zip(centred(limit + sign * 1e-6, l), centred(limit, l), strict=True):
        torch.testing.assert_close(near, at, rtol=0, atol=3e-4)


def test_amari_is_symmetric_about_one_half() -> None:
    """D_alpha(q, p) = D_(1 - alpha)(p, q): u g_(1-alpha)(-l) = g_alpha(l) for the centred form."""
    l = torch.linspace(-3, 3, 25, dtype=F64)
    for alpha in ALPHAS:
        dual = torch.exp(l) * centred(1 - alpha, -l)[0]
        torch.testing.assert_close(centred(alpha, l)[0], dual, rtol=1e-12, atol=1e-13)


def test_users_callables_are_divergences() -> None:
    def mine(l: Tensor) -> Tensor:
        return l**2

    wrapped = as_divergence(mine)
    assert wrapped.name == "mine"
    assert wrapped.power is None
    assert wrapped.needs_shift
    assert not bounds_evidence(mine)
    assert float(wrapped(torch.tensor(3.0))) == 9.0
    assert as_divergence(kl_forward) is kl_forward
    assert not kl_reverse.needs_shift


def test_softplus_is_exact_where_torch_s_default_cuts_off() -> None:
    x = torch.linspace(15, 50, 36, dtype=F64)
    assert torch.equal(softplus(x), torch.logaddexp(x, torch.zeros_like(x)))
