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

    @property
    def pair(self) -> tuple[object, object]:
        """What a program knows of divergence and estimator: their functions, arguments apart."""
        return self.divergence.function, self.estimator.function


def padded(columns: Sequence[Column], width: int) -> list[Column]:
    """The columns, then copies of the first that take no step, up to the width."""
    return [*columns, *(replace(columns[0], steps=0) for _ in range(width - len(columns)))]


@dataclass(frozen=True)
class Group:
    """A (divergence, estimator) pair that columns of a program share, arguments apart; one of them as example."""

    example: Column

    def mask(self, columns: Sequence[Column]) -> list[bool]:
        """Which columns belong to it."""
        return [column.pair == self.example.pair for column in columns]


def group(columns: Sequence[Column]) -> list[Group]:
    """Pairs present among columns, in order of first appearance."""
    found: dict[tuple[object, object], Column] = {}
    for column in columns:
        found.setdefault(column.pair, column)
    return [Group(column) for column in found.values()]


def group_tensors(columns: Sequence[Column], groups: Sequence[Group], like: Tensor) -> list[list[Tensor]]:
    """For each group its mask `(C,)` and its arguments `(C, 1)`: rows outside the group repeat its example's."""
    tensors = []
    for one in groups:
        mask = one.mask(columns)
        members = [column if inside else one.example for column, inside in zip(columns, mask, strict=True)]
        values = [(*column.divergence.arguments, *column.estimator.arguments) for column in members]
        arguments = [
            torch.tensor([[row[k]] for row in values], dtype=like.dtype, device=like.device)
            for k in range(len(values[0]))
        ]
        tensors.append([torch.tensor(mask, device=like.device), *arguments])
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
        x, example = l, one.example
        if example.needs_shift:
            x = l - shift[:, None]
            outside = (x.abs() > limit) & mask[:, None]
            clamped = clamped + outside.sum(-1)
            x = x.clamp(-limit, limit)
        split = len(example.divergence.arguments)
        divergence = replace(example.divergence, arguments=tuple(arguments[:split]))
        estimator = replace(example.estimator, arguments=tuple(arguments[split:]))
        made = estimator(x, divergence)
        result = made if result is None else select(mask, made, result)
    assert result is not None, "a pack has at least one column"
    return result, clamped
