"""The whole state of a pack of fits: small, explicit, saved and loaded as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from safetensors.torch import load, save
from torch import Tensor


@dataclass(frozen=True)
class PackState:
    """Everything that a step reads and writes, one row per column; noise follows from `step`.

    Attributes:
        params: guide leaves, then the model's params, flat, `(C, P)`.
        buffers: the optimizer's, `(N, C, P)`.
        shift: running estimate of log Z, `(C,)`.
        step: steps taken, skipped ones included, int64 `(C,)`.
        skipped: steps whose gradient was not finite, int64 `(C,)`.
        streak: of these, how many in a row just now, int64 `(C,)`.
        clamped: samples whose log weight was clamped, summed over steps, `(C,)`.
        alive: false once a column has diverged, bool `(C,)`.
        averaged: average of the last iterates of params, `(C, P)`; the params themselves where a column averages none.
        halfway: `averaged` as it was when the column had taken half of its steps, `(C, P)`; at first, its start.
    """

    params: Tensor
    buffers: Tensor
    shift: Tensor
    step: Tensor
    skipped: Tensor
    streak: Tensor
    clamped: Tensor
    alive: Tensor
    averaged: Tensor
    halfway: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """The fields in order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def at_average(self) -> PackState:
        """The state with the averages as its params: what is evaluated and kept. It is not one to step on from."""
        return replace(self, params=self.averaged)

    def at_half(self) -> PackState:
        """The state with its averages of half-way as its params; no more one to step on from."""
        return replace(self, params=self.halfway)

    def to_bytes(self) -> bytes:
        """The state as safetensors."""
        named = zip((field.name for field in fields(self)), self.tensors(), strict=True)
        # Cloned, because safetensors refuses tensors that share memory, as the zeros of a first state do.
        return save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in named})

    @classmethod
    def from_bytes(cls, content: bytes, device: torch.device | str = "cpu") -> PackState:
        """A state from `to_bytes`, on a device."""
        return cls(**{name: tensor.to(device) for name, tensor in load(content).items()})


def gather(sources: Sequence[tuple[PackState, int]], width: int) -> PackState:
    """A pack's state of rows from other packs' states, in order, each given as (state, row).

    Rows up to the width repeat the first: there the pack has columns that take no step (`columns.padded`).
    """
    rows = [*sources, *[sources[0]] * (width - len(sources))]
    gathered = {}
    for field in fields(PackState):
        axis = _COLUMN_AXIS.get(field.name, 0)
        gathered[field.name] = torch.stack(
            [getattr(state, field.name).select(axis, row) for state, row in rows], axis
        )
    return PackState(**gathered)


PARTS = len(fields(PackState))
"""How many tensors a state is."""

STEP = [field.name for field in fields(PackState)].index("step")
"""Which of them is the number of steps taken."""

# Where a field's columns are, if not along its first axis.
_COLUMN_AXIS = {"buffers": 1}


@dataclass(frozen=True)
class Trajectory:
    """What some steps of a pack recorded: `(K, C)` each; NaN where a column took no step.

    Attributes:
        loss: the objective, mean g(l) or the bound.
        elbo: mean of l over the step's samples.
        grad_norm: norm of the gradient before clipping.
    """

    loss: Tensor
    elbo: Tensor
    grad_norm: Tensor


def changes(before: PackState, after: PackState, records: Trajectory) -> dict[str, Tensor]:
    """What some steps made of a state, and what they recorded, by name and with columns first, `(C, ...)`.

    Of params and their averages it is the difference to what they were.
    """
    named = {field.name: getattr(after, field.name) for field in fields(PackState)}
    moved = {name: named[name] - getattr(before, name) for name in ("params", "averaged", "halfway")}
    curves = {"loss": records.loss.T, "elbo": records.elbo.T, "gradient norm": records.grad_norm.T}
    return {**curves, **named, **moved, "buffers": after.buffers.transpose(0, 1)}


def step_changes(before: PackState, step: Sequence[Tensor]) -> dict[str, Tensor]:
    """`changes` by one step, which returned the state's tensors and three records `(C,)`."""
    after, records = PackState(*step[:PARTS]), Trajectory(*(record[None] for record in step[PARTS:]))
    return changes(before, after, records)
