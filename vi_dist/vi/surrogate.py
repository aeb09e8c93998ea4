"""Scalars that report one value and have the gradient of another, put together from leaves of the same value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vi_dist.model.identifier import RVIdentifier
from vi_dist.vi.guided_sample import Draw, LeafParams


def reported(value: Tensor, surrogate: Tensor) -> Tensor:
    """The value, with the surrogate's gradient if it has one."""
    if not surrogate.requires_grad:
        return value
    found: Tensor = _Reported.apply(surrogate, value)  # type: ignore[no-untyped-call]
    return found


def draw_pairs(draws: Sequence[Draw]) -> list[tuple[Tensor, Tensor]]:
    """Every drawn value that carries a gradient: its leaf and itself."""
    return [
        (leaf, drawn)
        for draw in draws
        for leaf, drawn in zip(draw.leaves, draw.drawn, strict=True)
        if leaf.requires_grad
    ]


def param_pairs(params: Mapping[RVIdentifier, Tensor], *roles: LeafParams) -> list[tuple[Tensor, Tensor]]:
    """Every param in every role: its leaf and itself."""
    return [(leaf, params[key]) for role in roles for key, leaf in role.used.items() if leaf.requires_grad]


def inner(total: Tensor, pairs: Sequence[tuple[Tensor, Tensor]], retain: bool = False) -> Tensor:
    """A scalar whose gradient is total's, with every leaf replaced by the tensor that it stands for."""
    zero = torch.zeros((), device=total.device)
    if not pairs or not total.requires_grad:
        return zero
    gradients = torch.autograd.grad(
        total, [leaf for leaf, _ in pairs], retain_graph=retain, allow_unused=True
    )
    terms = [
        (gradient * live).sum()
        for gradient, (_, live) in zip(gradients, pairs, strict=True)
        if gradient is not None
    ]
    return sum(terms, zero)


class _Reported(torch.autograd.Function):
    """The value of one scalar with the gradient of another."""

    @staticmethod
    def forward(ctx: Any, surrogate: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
