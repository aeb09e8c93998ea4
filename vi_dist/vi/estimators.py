"""Gradient estimators: from the log weights of S samples to the loss and the coefficients of its gradient.

This is part B of the step, and the only place where coefficients are computed. With l_k the log weight of sample k,
every estimator of every divergence has a gradient of the form

    sum_k path_k * grad l_stop,k  +  sum_k score_k * grad log q(stop z_k),

where l_stop detaches the params (not z) inside log q; model params take ``sum_k model_k * grad log p``.

Sources: stl, Roeder et al. (arXiv 1703.09194); dreg, Tucker et al. (1810.04152); score with the leave-one-out
baseline, Richter et al. (2010.10436); vr_iwae, Daudel et al. (2210.06226).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vi_dist.errors import SpecError
from vi_dist.vi.divergences import Divergence, as_divergence, bounds_evidence
from vi_dist.vi.table import Argument, Entry


@dataclass(frozen=True)
class Coefficients:
    """What one step needs to know: loss `(C,)`; path, score and model coefficients `(C, S)`."""

    loss: Tensor
    path: Tensor
    score: Tensor
    model: Tensor


@dataclass(frozen=True)
class Estimator:
    """An estimator with its arguments: calling it on l `(C, S)` and a divergence gives `Coefficients`.

    Attributes:
        uses_path: whether path coefficients can differ from zero (the guide must be reparameterised).
        uses_score: whether score coefficients can differ from zero.
        cancels: whether the score coefficients are minus the path's: the guide's gradient is then that of log p along
            the draws and that of log q at its own draws, with no slope of log q in z.
        linear: whether the loss is a mean over samples of the divergence, not a function of all of them together.
        bounds: whether the objective bounds the evidence from below whatever the divergence; None: as it does.
    """

    name: str
    function: Callable[..., Coefficients]
    arguments: tuple[Any, ...] = ()
    uses_path: bool = True
    uses_score: bool = False
    cancels: bool = False
    linear: bool = False
    bounds: bool | None = None

    def __call__(self, l: Tensor, divergence: Divergence) -> Coefficients:
        return self.function(l, divergence, *self.arguments)


def slopes(divergence: Callable[[Tensor], Tensor], l: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """g, g' and g'' at l, elementwise, by differentiating g twice; all detached, all of l's shape."""
    with torch.enable_grad():
        x = l.detach().requires_grad_()
        value = divergence(x)
        first = _derivative(value, x)
        second = _derivative(first, x)
    return value.detach(), first.detach(), second.detach()


def _derivative(value: Tensor, x: Tensor) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(x)
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True, allow_unused=True)
    return torch.zeros_like(x) if slope is None else slope


def log_mean_exp(l: Tensor) -> Tensor:
    """log of the mean of e^l over the last axis: `(C, S)` to `(C,)`."""
    return torch.logsumexp(l, dim=-1) - math.log(l.shape[-1])


def _reparam(l: Tensor, g: Divergence) -> Coefficients:
    value, first, _ = slopes(g, l)
    weight = first / l.shape[-1]
    return Coefficients(value.mean(-1), weight, -weight, weight)


def _score(l: Tensor, g: Divergence) -> Coefficients:
    value, first, _ = slopes(g, l)
    samples = l.shape[-1]
    reward = value - first
    # The baseline of sample k is the mean over the others; (r_k - mean of others) = (r_k - mean of all) S/(S-1).
    centred = reward if samples == 1 else (reward - reward.mean(-1, keepdim=True)) * (samples / (samples - 1))
    return Coefficients(value.mean(-1), torch.zeros_like(l), centred / samples, first / samples)


def _stl(l: Tensor, g: Divergence) -> Coefficients:
    value, first, second = slopes(g, l)
    samples = l.shape[-1]
    return Coefficients(value.mean(-1), (first - second) / samples, torch.zeros_like(l), first / samples)


def _iwae(l: Tensor, g: Divergence) -> Coefficients:
    value, first, _ = slopes(g, log_mean_exp(l)[:, None])
    weight = first * torch.softmax(l, -1)
    return Coefficients(value[:, 0], weight, -weight, weight)


def _dreg(l: Tensor, g: Divergence) -> Coefficients:
    value, first, second = slopes(g, log_mean_exp(l)[:, None])
    normalised = torch.softmax(l, -1)
    path = (first - second) * normalised**2
    return Coefficients(value[:, 0], path, torch.zeros_like(l), first * normalised)


def _vr_iwae(l: Tensor, g: Divergence, order: Any) -> Coefficients:
    order = _column(order, l)
    weight = torch.softmax((1 - order) * l, -1)
    bound = log_mean_exp((1 - order) * l) / (1 - order).reshape(-1)
    path = -(order * weight + (1 - order) * weight**2)
    return Coefficients(-bound, path, torch.zeros_like(l), -weight)


def _self_normalised(l: Tensor, g: Divergence) -> Coefficients:
    alpha = _column(g.power, l)
    weight = torch.softmax(alpha * l, -1)
    nothing = torch.zeros_like(l)
    return Coefficients(_renyi(l, alpha), -weight, nothing, torch.full_like(l, math.nan))


def _renyi(l: Tensor, alpha: Tensor) -> Tensor:
    """log(E[u^alpha] / E[u]^alpha) / (alpha (alpha - 1)) from the samples, `(C,)`: what the weights descend.

    It is finite at any scale, does not depend on Z, and falls to 0 at q = p; its limits are log Z - E[l] at alpha = 0
    and E_p[l] - log Z at alpha = 1.
    """
    x = l - log_mean_exp(l)[:, None]
    zero, one = alpha == 0, alpha == 1
    safe = torch.where(zero | one, torch.full_like(alpha, 0.5), alpha)
    general = log_mean_exp(safe * x)[:, None] / (safe * (safe - 1))
    at_one = -torch.special.entr(torch.exp(x)).mean(-1, keepdim=True)
    limits = torch.where(zero, -x.mean(-1, keepdim=True), at_one)
    return torch.where(zero | one, limits, general)[:, 0]


def _column(value: Any, l: Tensor) -> Tensor:
    """An argument as a tensor that broadcasts against l: a number, or one number per configuration."""
    tensor = torch.as_tensor(value, dtype=l.dtype, device=l.device)
    return tensor.reshape(-1, 1)


reparam = Estimator("reparam", _reparam, uses_score=True, cancels=True, linear=True)
mixed = Estimator("mixed", _reparam, uses_score=True, cancels=True, linear=True)
score = Estimator("score", _score, uses_path=False, uses_score=True, linear=True)
stl = Estimator("stl", _stl, linear=True)
iwae = Estimator("iwae", _iwae, uses_score=True, cancels=True)
dreg = Estimator("dreg", _dreg)
self_normalised = Estimator("self_normalised", _self_normalised, bounds=False)


_PLAIN = {one.name: one for one in (reparam, score, mixed, stl, iwae, dreg, self_normalised)}


def vr_iwae(order: float) -> Estimator:
    """The VR-IWAE bound of Li and Turner's order, 0 <= order < 1 (0 is the importance-weighted bound)."""
    return Estimator("vr_iwae", _vr_iwae, (order,), bounds=True)


ESTIMATORS: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("reparam", "reparameterised samples, the whole gradient", lambda: reparam),
        Entry("score", "score function with a leave-one-out baseline; any guide", lambda: score),
        Entry(
            "mixed",
            "reparam where a guide has rsample, as all guides of a sweep have; score elsewhere (VariationalInfer)",
            lambda: mixed,
        ),
        Entry("stl", "sticking the landing: no score term, zero variance at q = p", lambda: stl),
        Entry("iwae", "importance-weighted bound, S samples", lambda: iwae),
        Entry("dreg", "doubly reparameterised gradient of the importance-weighted bound", lambda: dreg),
        Entry(
            "vr_iwae",
            "variational Renyi importance-weighted bound",
            vr_iwae,
            {"order": Argument(float, low=0.0, high=0.999, description="0 is the importance-weighted bound")},
        ),
        Entry(
            "self_normalised",
            "self-normalised weights: finite at any scale, biased O(1/S)",
            lambda: self_normalised,
        ),
    )
}


def choose(
    divergence: Divergence, reparameterised: bool = True, has_density: bool = True, samples: int | None = None
) -> str:
    """What `auto` means: the name of the estimator for a guide and a divergence.

    No rsample: `score`. No density (a delta): `reparam`. Power family beyond reverse KL: `self_normalised`, because
    the literal gradient vanishes or overflows far from the optimum, unless a step has one sample, which cannot be
    weighted. Kinked: `reparam`. Else `stl`.
    """
    if not reparameterised:
        return "score"
    if not has_density or divergence.kinked:
        return "reparam"
    if divergence.power is not None and divergence.power != 0 and samples != 1:
        return "self_normalised"
    return "stl"


def check_combination(
    divergence: Divergence,
    estimator: Estimator,
    *,
    reparameterised: bool = True,
    has_density: bool = True,
    model_params: bool = False,
) -> None:
    """Refuse a combination that would train the wrong thing. Raises `SpecError` with the reason and the cure."""
    if estimator.name in ("stl", "dreg") and divergence.kinked:
        raise SpecError(
            f"{estimator.name} needs g'', and {divergence.name} has a kink: its gradient would be 0; use reparam",
            key="estimator",
        )
    if estimator.uses_path and not reparameterised:
        raise SpecError(f"{estimator.name} needs a guide with rsample; use score", key="estimator")
    if not has_density and not (estimator.name == "reparam" and bounds_evidence(divergence)):
        raise SpecError(
            f"a guide without density goes to a mode, and {divergence.name} with {estimator.name} would not take it "
            "there; use kl_reverse with reparam",
            key="divergence",
        )
    if estimator.name == "self_normalised" and divergence.power is None:
        raise SpecError(
            f"self_normalised is for the power family (kl_forward, amari, chi-squares, Hellinger), not for "
            f"{divergence.name}; use reparam or stl",
            key="estimator",
        )
    if estimator.name == "vr_iwae" and divergence.name != "kl_reverse":
        raise SpecError(
            f"vr_iwae trains a bound of its own, whatever the divergence, so {divergence.name} would be a name for "
            "nothing; use kl_reverse with it, or iwae or dreg",
            key="estimator",
        )
    bounded = bounds_evidence(divergence) if estimator.bounds is None else estimator.bounds
    if model_params and not bounded:
        raise SpecError(
            f"{divergence.name} with {estimator.name} does not bound the evidence from below, so it cannot train "
            "the model's own params; use kl_reverse",
            key="divergence",
        )


def check_samples(divergence: Divergence, estimator: Estimator, samples: int) -> None:
    """Refuse an estimator of several samples where a step has one. Raises `SpecError`."""
    if samples > 1:
        return
    if estimator.name == "score":
        raise SpecError(
            "score takes the baseline of a sample from the step's others; write num_samples: 2 or more",
            key="num_samples",
            allowed=("at least 2",),
        )
    if estimator.name == "self_normalised" and divergence.power != 0:
        raise SpecError(
            f"the weight of a step's only sample is 1, so self_normalised would train kl_reverse under the name of "
            f"{divergence.name}; write num_samples: 2 or more, or take stl",
            key="num_samples",
            allowed=("at least 2",),
        )


def check_minibatches(divergence: Divergence, estimator: Estimator, insist: str) -> None:
    """Refuse what an estimate of the log weights from a part of the data would bias. Raises `SpecError`.

    Only the mean of l itself is linear in l. `insist`: what to write to have it all the same.
    """
    biased = "so an estimate of these from a part of the rows biases its gradient"
    if divergence.name != "kl_reverse":
        raise SpecError(
            f"{divergence.name} is not linear in the log weights, {biased}; take kl_reverse and all rows at a time, or "
            f"insist with {insist}",
            key="divergence",
        )
    if not estimator.linear:
        raise SpecError(
            f"{estimator.name} weights samples by their log weights, {biased}; take all rows at a time, or insist with "
            f"{insist}",
            key="estimator",
            allowed=tuple(name for name, one in _PLAIN.items() if one.linear),
        )


def coefficients(
    l: Tensor, divergence: Callable[[Tensor], Tensor], estimator: str = "reparam", **arguments: float
) -> Coefficients:
    """Table B for one divergence and estimator.

    Args:
        l: detached log weights, `(C, S)`.
        divergence: g, elementwise in l.
        estimator: a name in `ESTIMATORS`, with its arguments.
    """
    made: Estimator = ESTIMATORS[estimator].make(**arguments)
    return made(l.detach(), as_divergence(divergence))


def select(mask: Tensor, chosen: Coefficients, other: Coefficients) -> Coefficients:
    """The rows of `chosen` where mask `(C,)` holds, those of `other` elsewhere."""
    rows = mask[:, None]
    return replace(
        other,
        loss=torch.where(mask, chosen.loss, other.loss),
        path=torch.where(rows, chosen.path, other.path),
        score=torch.where(rows, chosen.score, other.score),
        model=torch.where(rows, chosen.model, other.model),
    )
