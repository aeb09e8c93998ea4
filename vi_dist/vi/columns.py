"""The configurations of a pack as the engine sees them: columns of numbers beside one shared program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from vi_dist.vi.divergences import Divergence
from vi_dist.vi.estimators import Coefficients, Estimator, select
from vi_dist.vi.schedules import SCHEDULES

LIMITS = {torch.float32: 32.0, torch.float64: 300.0}
"""The largest exponent in a gradient: its square must stay a number, with room for the slopes of a model."""


@dataclass(frozen=True)
class Column:
    """One configuration: everything that may differ between the columns of a pack.

    Attributes:
        coefficients: the optimizer's, by name.
        schedule: name in `SCHEDULES` and its arguments.
        clip: largest gradient norm; infinite for none.
        initialisation: where the guide starts, a name in `INITIALISATIONS`.
        averaging: about which part of the iterates, the last ones, is averaged; 0 takes the last one alone.
    """

    seed: int
    steps: int
    learning_rate: float
    divergence: Divergence
    estimator: Estimator
    coefficients: Mapping[str, float] = field(default_factory=dict)
    schedule: tuple[str, Mapping[str, float]] = ("constant", {})
    clip: float = float("inf")
    averaging: float = 0.0
    initialisation: str = "prior_median"

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
    l: Tensor, shift: Tensor, limit: Tensor, groups: Sequence[Group], tensors: Sequence[Sequence[Tensor]]
) -> tuple[Coefficients, Tensor]:
    """Table B for a pack: every row by its own divergence and estimator; and how many samples were clamped, `(C,)`.

    l is `(C, S)`, shift `(C,)`, limit `(C, 1)`. Where the divergence needs it, l - shift is clamped to +-limit, which
    keeps the exponentials finite, and the squares in a gradient's norm; a clamped sample keeps the slope of the limit.
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


@dataclass(frozen=True)
class ColumnTensors:
    """Everything that differs between the columns of a pack, as tensors.

    Attributes:
        named: rates, coefficients and the like, `(C,)` or `(C, 1)`.
        groups: the divergences and estimators that a program knows.
        tensors: of each group, its mask and arguments (`group_tensors`).
    """

    named: Mapping[str, Tensor]
    groups: Sequence[Group]
    tensors: Sequence[Sequence[Tensor]]

    def flat(self) -> list[Tensor]:
        """All tensors as three: ``steps`` `(C,)`, the numbers `(k, C, 1)`, the masks `(j, C)`.

        Few, because a compiled program pays for each input at each step.
        """
        steps, *rest = self._all()
        masks = [tensor.reshape(-1) for tensor in rest if tensor.dtype == torch.bool]
        return [steps, torch.stack([t for t in rest if t.dtype != torch.bool]), torch.stack(masks)]

    def with_flat(self, flat: Sequence[Tensor]) -> ColumnTensors:
        """The same structure over other tensors, as `flat` gives them."""
        steps, numbers, masks = flat
        own, others = iter(numbers.unbind()), iter(masks.unbind())
        rest = iter(
            [steps]
            + [
                next(others).reshape(tensor.shape) if tensor.dtype == torch.bool else next(own)
                for tensor in self._all()[1:]
            ]
        )
        named = {name: next(rest) for name in self.named}
        return replace(self, named=named, tensors=[[next(rest) for _ in part] for part in self.tensors])

    def _all(self) -> list[Tensor]:
        return [*self.named.values(), *(tensor for part in self.tensors for tensor in part)]


def column_tensors(
    columns: Sequence[Column],
    groups: Sequence[Group],
    schedules: Sequence[str],
    coefficients: Sequence[str],
    like: Tensor,
) -> ColumnTensors:
    """The columns' numbers, in the dtype and on the device of `like`."""

    def numbers(values: Sequence[float]) -> Tensor:
        return torch.tensor(list(values), dtype=like.dtype, device=like.device)[:, None]

    named = {
        "steps": torch.tensor([c.steps for c in columns], device=like.device),
        "shifted": torch.tensor([c.needs_shift for c in columns], device=like.device),
        "rate": numbers([c.learning_rate for c in columns]),
        "total": numbers([max(c.steps, 1) for c in columns]),
        "half": numbers([(c.steps + 1) // 2 for c in columns]),
        "clip": numbers([c.clip for c in columns]),
        "limit": numbers([LIMITS[like.dtype] / c.divergence.growth for c in columns]),
        "averaging": numbers([c.averaging for c in columns]),
    }
    for name in coefficients:
        named[name] = numbers([c.coefficients[name] for c in columns])
    for schedule in schedules:
        named[schedule] = torch.tensor([[c.schedule[0] == schedule] for c in columns], device=like.device)
        for name, argument in SCHEDULES[schedule].arguments.items():
            named[f"{schedule}.{name}"] = numbers(
                [c.schedule[1].get(name, argument.default) for c in columns]
            )
    return ColumnTensors(named, groups, group_tensors(columns, groups, named["rate"]))
