"""Part C of the step: a guide's gradient `(C, P)` from the coefficients of table B and the slopes at its draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vi_dist.vi.columns import ColumnTensors
from vi_dist.vi.estimators import Coefficients
from vi_dist.vi.guides.family import Family


def guide_gradient(
    family: Family,
    leaves: Mapping[str, Tensor],
    eps: Tensor,
    of_joint: Tensor,
    of_guide: Tensor,
    weights: Coefficients,
    columns: ColumnTensors,
) -> Tensor:
    """The gradient in the guide's leaves, every column by its own estimator.

    The slope of log q in z takes a triangular solve with a full-rank guide. Where the path coefficients are minus the
    score's it drops out: what is left is the derivative of log q at a draw as a whole, that of a log determinant.

    Args:
        family: the guide.
        leaves: its leaves, `(C, *shape)`.
        eps: noise of its draws, `(C, S, E)`.
        of_joint, of_guide: slopes of log p and log q in z, params stopped, `(C, S, d)`.
        weights: the coefficients.
        columns: which column has which estimator.
    """
    short = family.log_q_of_draw(leaves, eps) is not None
    kinds = [
        (one.example.estimator, mask) for one, (mask, *_) in zip(columns.groups, columns.tensors, strict=True)
    ]
    whole = [mask for estimator, mask in kinds if short and estimator.cancels]
    if len(whole) == len(kinds):
        return _whole_gradient(family, leaves, eps, of_joint, weights)
    scored = any(estimator.uses_score and not (short and estimator.cancels) for estimator, _ in kinds)
    gradient = stopped_gradient(family, leaves, eps, of_joint - of_guide, weights, scored)
    if not whole:
        return gradient
    rows = torch.stack(whole).any(0)[:, None]
    return torch.where(rows, _whole_gradient(family, leaves, eps, of_joint, weights), gradient)


def stopped_gradient(
    family: Family,
    leaves: Mapping[str, Tensor],
    eps: Tensor,
    slope: Tensor,
    weights: Coefficients,
    scored: bool,
) -> Tensor:
    """From the slope of l in z with log q's params stopped, `(C, S, d)`, and, if any are used, the score's terms."""
    path, score = weights.path, weights.score
    with torch.enable_grad():
        live = _live(leaves)
        z = family.draw(live, eps)
        surrogate = _along(path, slope, z)
        if family.has_density and scored:
            surrogate = surrogate + (score * family.log_prob(live, z.detach())).sum()
        return _flat_gradient(surrogate, live)


def _whole_gradient(
    family: Family, leaves: Mapping[str, Tensor], eps: Tensor, of_joint: Tensor, weights: Coefficients
) -> Tensor:
    with torch.enable_grad():
        live = _live(leaves)
        log_q = family.log_q_of_draw(live, eps)
        assert log_q is not None, "asked for where the guide has it"
        surrogate = _along(weights.path, of_joint, family.draw(live, eps)) + (weights.score * log_q).sum()
        return _flat_gradient(surrogate, live)


def _live(leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: leaf.detach().requires_grad_() for name, leaf in leaves.items()}


def _along(path: Tensor, slope: Tensor, z: Tensor) -> Tensor:
    # A sample that carries no path weight must not spoil the sum, whatever its slope is: 0 * NaN would.
    slope = torch.where((path == 0)[..., None], torch.zeros_like(slope), slope)
    return (path[..., None] * slope * z).sum()


def _flat_gradient(surrogate: Tensor, live: Mapping[str, Tensor]) -> Tensor:
    parts: Sequence[Tensor] = torch.autograd.grad(surrogate, list(live.values()))
    return torch.cat([part.reshape(part.shape[0], -1) for part in parts], -1)
