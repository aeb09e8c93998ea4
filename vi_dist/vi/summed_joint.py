"""The log joint of a model whose rows are cut: the sum of what shards say, wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vi_dist.vi.log_joint import LogJoint

Reduce = Callable[[Sequence[Tensor]], Tensor]
"""The sum over all shards of a tensor that each of them has, given those of the shards that live here."""


def total(parts: Sequence[Tensor]) -> Tensor:
    """The sum where all shards live in this process, always in the same order."""
    summed = parts[0]
    for part in parts[1:]:
        summed = summed + part
    return summed


class SummedJoint:
    """A `LogJoint` of all shards; every process must call it at the same points, in the same order.

    All processes get the same bits, so that what is decided by them is decided alike everywhere.

    Args:
        joints: of the shards in this process.
        values: the same log joints of many rows at once, without gradients, for `value`.
        reduce: the sum over all shards.
    """

    def __init__(
        self,
        joints: Sequence[LogJoint],
        values: Sequence[Callable[[Tensor], Tensor]],
        reduce: Reduce = total,
    ) -> None:
        self._joints, self._values, self._reduce = list(joints), list(values), reduce
        widths = [torch.tensor([float(joint.widest)], dtype=torch.float64) for joint in joints]
        self.widest = int(reduce(widths))

    def value(self, rows: Tensor) -> Tensor:
        """See `LogJoint.value`; detached."""
        with torch.no_grad():
            return self._reduce([value(rows) for value in self._values])

    def curvature(self, loc: Tensor, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `LogJoint.curvature`: 1 + d + d^2 numbers of each row in one sum."""
        size = loc.shape[1]
        parts = []
        for joint in self._joints:
            value, gradient, hessian = joint.curvature(loc, params)
            parts.append(torch.cat((value[:, None], gradient, hessian.flatten(1)), 1))
        value, gradient, hessian = self._reduce(parts).split((1, size, size * size), 1)
        return value[:, 0], gradient, hessian.reshape(-1, size, size)
