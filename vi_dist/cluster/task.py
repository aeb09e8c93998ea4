"""What travels between driver and workers: a pack's task, a chunk of its steps, a configuration's outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.plan import Program, program

Array = NDArray[Any]
CURVES = ("train/loss", "train/elbo", "train/grad_norm")
"""The curves of every configuration, by the names they have everywhere."""
ADVANCED = "advanced"
"""The status of a configuration that its pack leaves with steps to take: it goes on in another one."""


@dataclass(frozen=True)
class PackTask:
    """A pack as a worker gets it: configurations that share one program of `width` columns.

    Attributes:
        kinds: configurations that show every kind of column the program must know: those of all packs that share it.
        program_steps: steps of all packs that share the program, which is what compiling it is worth.
        pause: steps at which the pack ends although some of its configurations have more to take; None for none.
        samples: draws of its evaluation; None for the sweep's own number.
    """

    index: int
    width: int
    configurations: tuple[Configuration, ...]
    kinds: tuple[Configuration, ...] = ()
    program_steps: int = 0
    pause: int | None = None
    samples: int | None = None

    @property
    def targets(self) -> tuple[int, ...]:
        """Steps after which each configuration has done what this pack is for."""
        return tuple(
            configuration.steps if self.pause is None else min(configuration.steps, self.pause)
            for configuration in self.configurations
        )

    @property
    def program(self) -> tuple[Program, int]:
        """What packs share that one program serves."""
        return program(self.configurations[0]), self.width

    @property
    def steps(self) -> int:
        """Steps of the longest configuration, up to the pause."""
        return max(self.targets)


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
        return int(np.where(self.alive, np.array(task.targets) - self.after, 0).max())


@dataclass(frozen=True)
class Outcome:
    """How one configuration ended.

    Attributes:
        status: finished | stopped | diverged | failed | interrupted; or `ADVANCED`, which is no end.
        reason: a full sentence.
        steps: steps taken, of which `skipped` had no finite gradient.
        converged: yes | no, or empty where that cannot be told; from `elbo_change`, nats in the second half of its
            steps, and `moved`, sds that a mean or an sd changed by there (`Convergence`).
        draws: of the evaluation that the numbers above come from; 0 for none.
        ess: effective sample size of their smoothed importance weights.
        elpd: log predictive density of the rows held out, with its standard error `elpd_se`.
        score: of the user's own objective.
        mean_rms, sd_rms: distance to a reference, in its standard deviations.
        seconds: its share of its pack's time.
        leaves: the guide's parameters by name.
        model_params: the model's own, by name.
        sharding: of a sharded fit, its shards and rows, and where a step's time went (`StepTimes`).
    """

    status: str
    reason: str
    steps: int = 0
    skipped: int = 0
    elbo: float = np.nan
    elbo_se: float = np.nan
    iw_elbo: float = np.nan
    khat: float = np.nan
    draws: int = 0
    ess: float = np.nan
    converged: str = ""
    elbo_change: float = np.nan
    moved: float = np.nan
    elpd: float = np.nan
    elpd_se: float = np.nan
    score: float = np.nan
    mean_rms: float = np.nan
    sd_rms: float = np.nan
    seconds: float = 0.0
    leaves: Mapping[str, Tensor] = field(default_factory=dict)
    model_params: Mapping[str, Tensor] = field(default_factory=dict)
    sharding: Mapping[str, float] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether the configuration takes no further step."""
        return self.status != ADVANCED

    def value(self, objective: str) -> float:
        """One of the numbers above, by name."""
        return float(getattr(self, objective))


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
