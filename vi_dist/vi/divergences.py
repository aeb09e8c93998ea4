"""Discrepancy functions g(l) of an f-divergence E_q[f(p/q)], in log space: l = log p(x, z) - log q(z), f(u) = g(log u).

A divergence is one function and one line of `DIVERGENCES`; anything callable on a tensor of l is one too. Tensors of
arguments (one per configuration of a pack) broadcast against l, so that one program serves a whole pack.

Sources: Wan et al., f-Divergence Variational Inference (arXiv 2009.13093); Zhu and Rohwer / Amari's alpha family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus as _softplus

from vi_dist.errors import SpecError
from vi_dist.vi.table import Argument, Entry


@dataclass(frozen=True)
class Divergence:
    """A named divergence: calling it on l, of any shape, gives g(l) elementwise.

    Attributes:
        name: its name in `DIVERGENCES`.
        function: ``function(l, *arguments) -> g(l)``; arguments may be tensors that broadcast against l.
        arguments: values for the function, in order.
        power: the exponent a where g is an affine function of u**a up to sign, of u, and of constants (0 means
            log u, 1 means u log u); None outside the power family. Given as a function of the arguments.
        decreasing: whether g falls everywhere, so that E_q[g] bounds the evidence from below.
        kinked: whether g' jumps somewhere, which rules out estimators that need g''.
        steepness: the largest b for which g grows as e^(b |l|) on either side, where `power` does not tell.
    """

    name: str
    function: Callable[..., Tensor]
    arguments: tuple[Any, ...] = ()
    power_of: Callable[..., Any] | None = None
    decreasing: bool = False
    kinked: bool = False
    steepness: float = 1.0

    def __call__(self, l: Tensor) -> Tensor:
        return self.function(l, *self.arguments)

    @property
    def power(self) -> Any:
        """The power family's exponent for these arguments, or None."""
        return None if self.power_of is None else self.power_of(*self.arguments)

    @property
    def growth(self) -> float:
        """How steep g is in the exponent, at least 1: e^(growth |l|) must be a number that can be squared."""
        return max(self.steepness, abs(float(self.power or 0.0)))

    @property
    def needs_shift(self) -> bool:
        """Whether g(l - c) trains differently from g(l); the reverse KL does not care about a constant."""
        return self.name != "kl_reverse"


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), exact in float64 (torch's own default cuts off at 20, an error of 2e-9)."""
    return _softplus(x, 1.0, 40.0)


def _amari(l: Tensor, alpha: Any) -> Tensor:
    alpha = torch.as_tensor(alpha, dtype=l.dtype, device=l.device)
    zero, one = alpha == 0, alpha == 1
    special = zero | one
    a = torch.where(special, torch.full_like(alpha, 0.5), alpha)
    # The input of a branch that is not taken is replaced, or its overflow turns the gradient into NaN.
    x = torch.where(special, torch.zeros_like(l), l)
    y = torch.where(one, l, torch.zeros_like(l))
    general = (torch.expm1(a * x) - a * torch.expm1(x)) / (a * (a - 1))
    return torch.where(zero, -l, torch.where(one, y * torch.exp(y) - torch.expm1(y), general))


def _jensen_shannon(l: Tensor) -> Tensor:
    low = l.clamp(max=30.0)
    return torch.where(l > 30.0, -1 - softplus(l), -torch.exp(low) * softplus(-low) - softplus(low))


kl_reverse = Divergence("kl_reverse", lambda l: -l, power_of=lambda: 0.0, decreasing=True)
kl_forward = Divergence("kl_forward", lambda l: l * torch.exp(l), power_of=lambda: 1.0)
pearson_chi2 = Divergence("pearson_chi2", lambda l: torch.expm1(l) ** 2, power_of=lambda: 2.0)
neyman_chi2 = Divergence("neyman_chi2", lambda l: torch.expm1(-l), power_of=lambda: -1.0, decreasing=True)
squared_hellinger = Divergence("squared_hellinger", lambda l: torch.expm1(l / 2) ** 2, power_of=lambda: 0.5)
total_variation = Divergence("total_variation", lambda l: 0.5 * torch.expm1(l).abs(), kinked=True)
jensen_shannon = Divergence("jensen_shannon", _jensen_shannon, decreasing=True)
jeffreys = Divergence("jeffreys", lambda l: 0.5 * l * torch.expm1(l))
triangular = Divergence("triangular", lambda l: torch.expm1(l) * torch.tanh(l / 2))
arithmetic_geometric = Divergence(
    "arithmetic_geometric", lambda l: (1 + torch.exp(l)) * (softplus(l) - l / 2)
)
modified_gan = Divergence("modified_gan", lambda l: softplus(-l), decreasing=True)


def amari(alpha: float) -> Divergence:
    """Amari's alpha divergence, centred: (expm1(alpha l) - alpha expm1(l)) / (alpha (alpha - 1)).

    alpha = 1 is the limit, the centred forward KL; alpha = 0 is -l, the reverse KL, which needs no centring.

    >>> amari(0.5)(torch.zeros(2))
    tensor([-0., -0.])
    """
    return Divergence("amari", _amari, (alpha,), power_of=lambda a: a)


# Duals in closed form, where e^l g(-l) would be inf * 0 far from l = 0; a divergence that is missing is its own dual.
_DUALS = {
    "kl_reverse": kl_forward,
    "kl_forward": kl_reverse,
    "pearson_chi2": Divergence(
        "dual(pearson_chi2)", lambda l: -torch.expm1(l) * torch.expm1(-l), power_of=lambda: -1.0
    ),
    "neyman_chi2": Divergence(
        "dual(neyman_chi2)", lambda l: torch.exp(l) * torch.expm1(l), power_of=lambda: 2.0
    ),
    "modified_gan": Divergence("dual(modified_gan)", lambda l: torch.exp(l) * softplus(l)),
}

_SYMMETRISED = {
    "kl_reverse": jeffreys,
    "kl_forward": jeffreys,
    "pearson_chi2": Divergence(
        "symmetrised(pearson_chi2)", lambda l: torch.expm1(l) * torch.sinh(l), steepness=2.0
    ),
}


@cache
def dual(of: str | Callable[[Tensor], Tensor]) -> Divergence:
    """The divergence with p and q exchanged, g*(l) = e^l g(-l): in closed form for every divergence with a name.

    `of` is a name in `DIVERGENCES` or a divergence; `amari(alpha)` gives `amari(1 - alpha)`, and a user's own function
    the literal form. Raises `SpecError` for a name that is none or needs arguments.

    >>> dual("kl_reverse").name
    'kl_forward'
    """
    known = _named(of, "dual")
    if known.function is _amari:
        return amari(1 - known.arguments[0])
    if known.name in DIVERGENCES:
        return _DUALS.get(known.name, known)
    return Divergence(f"dual({known.name})", lambda l: torch.exp(l) * known(-l), kinked=known.kinked)


@cache
def symmetrised(of: str | Callable[[Tensor], Tensor]) -> Divergence:
    """The mean of a divergence and its dual, (g + g*) / 2; `of` as in `dual`.

    >>> symmetrised("kl_forward").name
    'jeffreys'
    """
    known = _named(of, "symmetrised")
    other = dual(known)
    if other is known or known.name in _SYMMETRISED:
        return _SYMMETRISED.get(known.name, known)
    name = f"symmetrised({known.name})"
    steepness = max(known.growth, other.growth)
    return Divergence(name, lambda l: 0.5 * (known(l) + other(l)), kinked=known.kinked, steepness=steepness)


def _named(of: str | Callable[[Tensor], Tensor], entry: str) -> Divergence:
    """The divergence that an argument `of` means."""
    if not isinstance(of, str):
        return as_divergence(of)
    names = [name for name, known in DIVERGENCES.items() if not known.arguments]
    if of not in names:
        cure = "; the dual of amari(alpha) is amari(1 - alpha)" if of == "amari" else ""
        raise SpecError(
            f"{entry} of {of!r}, which is no divergence without arguments{cure}", key="of", allowed=names
        )
    made: Divergence = DIVERGENCES[of].make()
    return made


def _constant(divergence: Divergence) -> Callable[[], Divergence]:
    return lambda: divergence


DIVERGENCES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("kl_reverse", "KL(q||p), the negative ELBO: covers one mode, narrow", _constant(kl_reverse)),
        Entry("kl_forward", "KL(p||q): covers all mass, wide", _constant(kl_forward)),
        Entry(
            "amari",
            "alpha family from reverse (0) to forward KL (1) and beyond",
            amari,
            {
                "alpha": Argument(
                    float,
                    low=-100.0,
                    high=100.0,
                    description="0 reverse KL, 0.5 Hellinger, 1 forward KL, 2 chi-square",
                )
            },
        ),
        Entry("pearson_chi2", "chi-square(p||q)", _constant(pearson_chi2)),
        Entry("neyman_chi2", "chi-square(q||p)", _constant(neyman_chi2)),
        Entry("squared_hellinger", "squared Hellinger distance", _constant(squared_hellinger)),
        Entry(
            "total_variation",
            "total variation (kinked: no stl, no dreg)",
            _constant(total_variation),
            traits=frozenset({"kinked"}),
        ),
        Entry("jensen_shannon", "Jensen-Shannon", _constant(jensen_shannon)),
        Entry("jeffreys", "mean of forward and reverse KL", _constant(jeffreys)),
        Entry("triangular", "triangular discrimination", _constant(triangular)),
        Entry("arithmetic_geometric", "arithmetic-geometric mean", _constant(arithmetic_geometric)),
        Entry("modified_gan", "the GAN generator's objective", _constant(modified_gan)),
        Entry(
            "dual",
            "another divergence with p and q exchanged",
            dual,
            {"of": Argument(str, description="its name, for example pearson_chi2")},
        ),
        Entry(
            "symmetrised",
            "the mean of another divergence and its dual",
            symmetrised,
            {"of": Argument(str, description="its name, for example pearson_chi2")},
        ),
    )
}


def as_divergence(function: Callable[[Tensor], Tensor]) -> Divergence:
    """A user's callable as a divergence; nothing is assumed of it."""
    if isinstance(function, Divergence):
        return function
    return Divergence(getattr(function, "__name__", "custom"), function)


def bounds_evidence(divergence: Callable[[Tensor], Tensor]) -> bool:
    """Whether E_q[g] bounds the evidence from below, so that model params may be trained by it."""
    known = as_divergence(divergence)
    return known.decreasing or (known.name == "amari" and known.arguments == (0,))
