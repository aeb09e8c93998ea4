"""A worker's programs: traced and compiled once for all packs that share one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch.fx import GraphModule

from vi_dist.cluster.columns import DTYPES, column, family, optimizer
from vi_dist.cluster.prepared import PreparedModel
from vi_dist.cluster.task import PackTask, StepKind
from vi_dist.sweep.plan import Program, program
from vi_dist.vi.columns import padded
from vi_dist.vi.compile import Decision, decide
from vi_dist.vi.initialisation import Places, start_of
from vi_dist.vi.laplace_scale import Mode
from vi_dist.vi.pack import PackProgram

KEPT, KEPT_ON_CUDA = 16, 4
"""How many programs a worker keeps: a few megabytes each, and seconds to trace again; a recorded one keeps the memory
of its steps."""

_Kinds = tuple[tuple[str, str, str], ...]
_Key = tuple[Program, int, _Kinds]


@dataclass
class _Known:
    """A program, how it is stepped, and the pack whose configurations are in its columns."""

    program: PackProgram
    kind: StepKind
    task: PackTask


class Programs:
    """The programs of one model on one device; the last few are kept, since rungs and generations come back to them.

    Args:
        mode: whether they are compiled: ``auto``, ``always`` or ``never``.
        device: where they run.
    """

    def __init__(self, mode: str, device: torch.device) -> None:
        self._mode, self._device = mode, device
        self._known: dict[_Key, _Known] = {}
        self.kind: StepKind

    def get(self, task: PackTask, prepared: PreparedModel) -> PackProgram:
        """The pack's program, with the pack's configurations in its columns."""
        key = (program(task.configurations[0]), task.width, _kinds(task))
        known = self._known.pop(key, None)
        if known is None:
            known = self._new(task, prepared)
        elif task != known.task:
            columns = padded([column(configuration) for configuration in task.configurations], task.width)
            known.program.refill(known.program.start(), dict(enumerate(columns)))
            known.task = task
        self._known[key] = known
        if len(self._known) > (KEPT_ON_CUDA if self._device.type == "cuda" else KEPT):
            self._known.pop(next(iter(self._known)))
        self.kind = known.kind
        return known.program

    def _new(self, task: PackTask, prepared: PreparedModel) -> _Known:
        made = make_program(task, prepared, DTYPES[task.configurations[0].dtype], self._device)
        decision = made.compile(self._mode, task.program_steps)
        kind = StepKind(made.joint.mode, made.joint.reason, decision.compiled, decision.reason)
        return _Known(made, kind, task)

    def describe(self, task: PackTask, prepared: PreparedModel) -> tuple[StepKind, GraphModule | None]:
        """How the pack would be stepped, and its graph where it has one; compiles nothing."""
        made = make_program(task, prepared, DTYPES[task.configurations[0].dtype], self._device)
        graph = made.graph()
        decision = (
            decide(self._mode, graph, task.program_steps) if graph is not None else Decision(False, "a loop")
        )
        return StepKind(made.joint.mode, made.joint.reason, decision.compiled, decision.reason), graph


def make_program(
    task: PackTask,
    prepared: PreparedModel,
    dtype: torch.dtype,
    device: torch.device,
    *,
    all_rows: bool = False,
    find_mode: Callable[[], Mode | None] | None = None,
) -> PackProgram:
    """The program of a pack, not compiled; of a shard's model it has the shard's local latents too.

    `all_rows`: the rows that are not in a step's batch count too, as they do for an evaluation. `find_mode`: of the
    whole model, of which `prepared` may be a shard's part; absent, its own.
    """
    first = task.configurations[0]
    guide = family(first.guide, prepared.layout.noise)
    find_mode = find_mode or (lambda: prepared.mode)
    guide = guide.placed(find_mode, torch.empty(0, dtype=dtype, device=device))
    places = Places(prepared.layout.loc, find_mode, lambda: prepared.initial_coordinates)
    return PackProgram(
        prepared.joint(guide.jacobian) if all_rows else prepared.training_joint(guide.jacobian),
        prepared.layout,
        guide,
        optimizer(first.optimizer),
        first.num_samples,
        [column(configuration) for configuration in task.configurations],
        task.width,
        kinds=[column(configuration) for configuration in task.kinds],
        ids=None if prepared.rows is None else prepared.rows.ids,
        batches=None if all_rows else prepared.batches,
        start_of=partial(start_of, places=places),
        dtype=dtype,
        device=device,
    )


def _kinds(task: PackTask) -> _Kinds:
    """What the pack's program knows beside its columns' numbers: divergences, estimators, schedules."""
    known = (
        (c.divergence.name, c.estimator.name, c.schedule.name) for c in (*task.kinds, *task.configurations)
    )
    return tuple(dict.fromkeys(known))
