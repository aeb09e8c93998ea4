"""The configurations of a pack as the engine sees them: columns of numbers beside one shared program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from vi_dist.vi.divergences import Divergence
from vi_dist.vi.estimators import Coefficients, Estimator, select


@dataclass(frozen=True)
class Column:
    """One configuration: everything that may differ between the columns of a pack.

    Attributes:
        coefficients: the optimizer's, by name.
        schedule: name in `SCHEDULES` and its arguments.
        clip: largest gradient norm; infinite for none.
    """

    seed: int
    steps: int
    learning_rate: float
    divergence: Divergence
    estimator: Estimator
    coefficients: Mapping[str, float] = field(default_factory=dict)
    schedule: tuple[str, Mapping[str, float]] = ("constant", {})
    clip: float = float("inf")

    @property
    def needs_shift(self) -> bool:
        """Whether the loss is evaluated at l - c, c a running estimate of log Z."""
        return self.divergence.needs_shift and self.estimator.name not in ("self_normalised", "vr_iwae")


def padded(columns: Sequence[Column], width: int) -> list[Column]:
    """The columns, then copies of the first that take no step, up to the width."""
    return [*columns, *(replace(columns[0], steps=0) for _ in range(width - len(columns)))]


@dataclass(frozen=True)
class Group:
    """The columns of a pack that share one (divergence, estimator) pair, arguments apart."""

    divergence: Divergence
    estimator: Estimator
    needs_shift: bool
    rows: tuple[int, ...]


def group(columns: Sequence[Column]) -> list[Group]:
    """Pairs present in a pack, in order of first appearance."""
    found: dict[tuple[object, object], list[int]] = {}
    for row, column in enumerate(columns):
        found.setdefault((column.divergence.function, column.estimator.function), []).append(row)
    return [
        Group(columns[rows[0]].divergence, columns[rows[0]].estimator, columns[rows[0]].needs_shift, tuple(rows))
        for rows in found.values()
    ]


def group_tensors(columns: Sequence[Column], groups: Sequence[Group], like: Tensor) -> list[list[Tensor]]:
    """For each group its mask `(C,)` and its arguments `(C, 1)`: rows outside the group repeat its first row's."""
    tensors = []
    for one in groups:
        inside = set(one.rows)
        rows = [row if row in inside else one.rows[0] for row in range(len(columns))]
        mask = torch.tensor([row in inside for row in range(len(columns))], device=like.device)
        arguments = [
            torch.tensor([[values[k]] for values in table], dtype=like.dtype, device=like.device)
            for table in (
                [columns[row].divergence.arguments for row in rows],
                [columns[row].estimator.arguments for row in rows],
            )
            for k in range(len(table[0]))
        ]
        tensors.append([mask, *arguments])
    return tensors


def pack_coefficients(
    l: Tensor, shift: Tensor, limit: float, groups: Sequence[Group], tensors: Sequence[Sequence[Tensor]]
) -> tuple[Coefficients, Tensor]:
    """Table B for a pack: every row by its own divergence and estimator; and how many samples were clamped, `(C,)`.

    l is `(C, S)`, shift `(C,)`. Where the divergence needs it, l - shift is clamped to +-limit, which keeps the
    exponentials finite; a clamped sample keeps the slope of the limit.
    """
    clamped = torch.zeros_like(shift)
    result: Coefficients | None = None
    for one, (mask, *arguments) in zip(groups, tensors, strict=True):
        x = l
        if one.needs_shift:
            x = l - shift[:, None]
            outside = (x.abs() > limit) & mask[:, None]
            clamped = clamped + outside.sum(-1)
            x = x.clamp(-limit, limit)
        if len(groups) > 1:
            # Other rows see 0: whatever they hold cannot disturb this group, nor cost it an overflow.
            x = torch.where(mask[:, None], x, torch.zeros_like(x))
        split = len(one.divergence.arguments)
        divergence = replace(one.divergence, arguments=tuple(arguments[:split]))
        estimator = replace(one.estimator, arguments=tuple(arguments[split:]))
        made = estimator(x, divergence)
        result = made if result is None else select(mask, made, result)
    assert result is not None, "a pack has at least one column"
    return result, clamped
