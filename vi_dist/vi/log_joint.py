"""What finding a mode needs of a log joint, whether all of it is here or shards have a part each."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class LogJoint(Protocol):
    """A log joint of coordinates and model params, `(B, D)`."""

    @property
    def widest(self) -> int:
        """Numbers in the largest intermediate of one row."""

    def value(self, rows: Tensor) -> Tensor:
        """Log joint `(B,)` of rows `(B, D)`."""

    def curvature(self, loc: Tensor, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log joint `(B,)`, its gradient `(B, d)` and Hessian `(B, d, d)` in the coordinates at loc `(B, d)`, with the
        model's params `(B, p)` held fixed; detached."""


def curvature(joint: LogJoint, loc: Tensor, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`LogJoint.curvature` by autograd: d + 1 backward passes over all rows at once."""
    with torch.enable_grad():
        leaf = loc.detach().requires_grad_()
        value = joint.value(torch.cat((leaf, params), -1))
        (gradient,) = torch.autograd.grad(value.sum(), leaf, create_graph=True)
        columns = [_column(gradient[:, i], leaf) for i in range(loc.shape[1])]
    hessian = torch.stack(columns, -1)
    return value.detach(), gradient.detach(), 0.5 * (hessian + hessian.transpose(-1, -2))


def _column(slope: Tensor, leaf: Tensor) -> Tensor:
    """Gradient of one partial derivative `(C,)`; zero where it is a constant."""
    if not slope.requires_grad:
        return torch.zeros_like(leaf)
    (column,) = torch.autograd.grad(slope.sum(), leaf, retain_graph=True, allow_unused=True)
    return torch.zeros_like(leaf) if column is None else column.detach()
