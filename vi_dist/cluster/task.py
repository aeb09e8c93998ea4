"""What travels between driver and workers: a pack's task, a chunk of its steps, a configuration's outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vi_dist.sweep.configuration import Configuration

Array = NDArray[Any]
CURVES = ("train/loss", "train/elbo", "train/grad_norm")
"""The curves of every configuration, by the names they have everywhere."""


@dataclass(frozen=True)
class PackTask:
    """A pack as a worker gets it: configurations that share one program of `width` columns.

    Attributes:
        kinds: configurations that show every kind of column the program must know: those of all packs that share it.
        program_steps: steps of all packs that share the program, which is what compiling it is worth.
    """

    index: int
    width: int
    configurations: tuple[Configuration, ...]
    kinds: tuple[Configuration, ...] = ()
    program_steps: int = 0

    @property
    def steps(self) -> int:
        """Steps of the longest configuration."""
        return max(configuration.steps for configuration in self.configurations)


@dataclass(frozen=True)
class StepKind:
    """How a pack's steps are run.

    Attributes:
        mode: ``flat`` (the model's Python was traced away) or ``loop``, with the `reason` for a loop.
        compiled: whether the flat step is compiled.
        decision: why it is, or is not.
    """

    mode: str
    reason: str
    compiled: bool
    decision: str


@dataclass(frozen=True)
class Chunk:
    """Some steps of a pack, with its state after them; rows of the n configurations only, without padding.

    Attributes:
        state: the pack's whole state (`PackState.to_bytes`).
        before, after: steps of every configuration before and after, `(n,)`.
        skipped: steps so far whose gradient was not finite, `(n,)`.
        alive: false for a configuration that has diverged, `(n,)`.
        curves: one array `(K, n)` for each name in `CURVES`; a configuration's values are its first
            ``after - before`` rows.
        began_ms, ended_ms: wall-clock times around the steps.
        seconds: time spent stepping.
        preparing: time spent before the first step: build, trace, compile.
        kind: how the steps were run.
    """

    state: bytes
    before: Array
    after: Array
    skipped: Array
    alive: Array
    curves: Mapping[str, Array]
    began_ms: int
    ended_ms: int
    seconds: float
    preparing: float
    kind: StepKind

    def remaining(self, task: PackTask) -> int:
        """Steps that the pack has still to take."""
        wanted = np.array([configuration.steps for configuration in task.configurations])
        return int(np.where(self.alive, wanted - self.after, 0).max())


@dataclass(frozen=True)
class Outcome:
    """How one configuration ended.

    Attributes:
        status: finished | stopped | diverged | failed | interrupted.
        reason: a full sentence.
        steps: steps taken, of which `skipped` had no finite gradient.
        seconds: its share of its pack's time.
        leaves: the guide's parameters by name.
        model_params: the model's own, by name.
    """

    status: str
    reason: str
    steps: int = 0
    skipped: int = 0
    elbo: float = np.nan
    elbo_se: float = np.nan
    iw_elbo: float = np.nan
    khat: float = np.nan
    seconds: float = 0.0
    leaves: Mapping[str, Tensor] = field(default_factory=dict)
    model_params: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluated:
    """A pack's outcomes in order, the time their evaluation took, and the time spent before it."""

    outcomes: tuple[Outcome, ...]
    seconds: float
    preparing: float


@dataclass(frozen=True)
class Place:
    """Where a worker runs."""

    pid: int
    node: str
    device: str
