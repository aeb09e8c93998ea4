"""A worker's programs: traced and compiled once for all packs that share one."""

from __future__ import annotations

import torch
from torch.fx import GraphModule

from vi_dist.cluster.columns import DTYPES, column, family, optimizer
from vi_dist.cluster.prepared import PreparedModel
from vi_dist.cluster.task import PackTask, StepKind
from vi_dist.sweep.plan import Program, program
from vi_dist.vi.columns import padded
from vi_dist.vi.compile import Decision, decide
from vi_dist.vi.pack import PackProgram

_Kinds = tuple[tuple[str, str, str], ...]
_Key = tuple[Program, int, _Kinds]


class Programs:
    """The programs of one model on one device; the last one is kept.

    Args:
        mode: whether they are compiled: ``auto``, ``always`` or ``never``.
        device: where they run.
    """

    def __init__(self, mode: str, device: torch.device) -> None:
        self._mode, self._device = mode, device
        self._key: _Key | None = None
        self._task: PackTask | None = None
        self._program: PackProgram
        self.kind: StepKind

    def get(self, task: PackTask, prepared: PreparedModel) -> PackProgram:
        """The pack's program, with the pack's configurations in its columns."""
        first = task.configurations[0]
        key = (program(first), task.width, _kinds(task))
        columns = padded([column(configuration) for configuration in task.configurations], task.width)
        if key != self._key:
            self._program = self._made(task, prepared)
            decision = self._program.compile(self._mode, task.program_steps)
            joint = self._program.joint
            self.kind = StepKind(joint.mode, joint.reason, decision.compiled, decision.reason)
            self._key = key
        elif task != self._task:
            self._program.refill(self._program.start(), dict(enumerate(columns)))
        self._task = task
        return self._program

    def describe(self, task: PackTask, prepared: PreparedModel) -> tuple[StepKind, GraphModule | None]:
        """How the pack would be stepped, and its graph where it has one; compiles nothing."""
        made = self._made(task, prepared)
        graph = made.graph()
        decision = (
            decide(self._mode, graph, task.program_steps) if graph is not None else Decision(False, "a loop")
        )
        return StepKind(made.joint.mode, made.joint.reason, decision.compiled, decision.reason), graph

    def _made(self, task: PackTask, prepared: PreparedModel) -> PackProgram:
        first = task.configurations[0]
        like = torch.empty(0, dtype=DTYPES[first.dtype], device=self._device)
        guide = family(first.guide, prepared.layout.noise).placed(lambda: prepared.mode, like)
        return PackProgram(
            prepared.joint(guide.jacobian),
            prepared.layout,
            guide,
            optimizer(first.optimizer),
            first.num_samples,
            [column(configuration) for configuration in task.configurations],
            task.width,
            kinds=[column(configuration) for configuration in task.kinds],
            dtype=DTYPES[first.dtype],
            device=self._device,
        )


def _kinds(task: PackTask) -> _Kinds:
    """What the pack's program knows beside its columns' numbers: divergences, estimators, schedules."""
    known = (
        (c.divergence.name, c.estimator.name, c.schedule.name) for c in (*task.kinds, *task.configurations)
    )
    return tuple(dict.fromkeys(known))
