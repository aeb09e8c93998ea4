"""The worker of some shards of a model: steps and evaluates packs together with the workers of the others."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from vi_dist.cluster.checkpoints import Checkpoints
from vi_dist.cluster.columns import DTYPES
from vi_dist.cluster.judgement import Judge, fitted, is_whole
from vi_dist.cluster.local_latents import write_local
from vi_dist.cluster.memory import peak_bytes
from vi_dist.cluster.prepared import PreparedModel, prepare
from vi_dist.cluster.programs import make_program
from vi_dist.cluster.scoring import Scorer
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.shard_state import ShardState
from vi_dist.cluster.shard_times import told
from vi_dist.cluster.task import CURVES, Array, Chunk, Evaluated, Outcome, PackTask, Place, StepKind
from vi_dist.evaluation.convergence import DRAWS
from vi_dist.evaluation.evaluate import Evaluator
from vi_dist.vi.context import steady_products, threads
from vi_dist.vi.graph import trace
from vi_dist.vi.laplace_scale import Mode
from vi_dist.vi.mode import find_mode
from vi_dist.vi.shards import ShardGroup
from vi_dist.vi.state import PackState, gather
from vi_dist.vi.summed_joint import Reduce, SummedJoint, total

CHECKPOINT_SECONDS = 20.0
"""How much work a lost shard may cost, about."""


class ShardWorker:
    """Holds the rows of some shards, steps packs on them, and has the same calls as `PackWorker`.

    What it returns as state is a number of steps (`ShardState`): the state itself stays here, and every so often, and
    where a pack pauses, each shard writes its part to the sweep's directory. A worker that is asked to go on from steps
    that it has not taken begins at the last checkpoint of all shards and takes the steps between once more, which gives
    the same numbers.

    Args:
        setup: the sweep's model, data and evaluation; with `shards`.
        ranks: numbers of the shards that live here, all of them or one.
        reduce: the sum over all shards.
        device: where packs are stepped.
        checkpoint_seconds: time between checkpoints.
    """

    def __init__(
        self,
        setup: Setup,
        ranks: Sequence[int],
        reduce: Reduce = total,
        device: torch.device | str = "cpu",
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> None:
        assert setup.shards is not None, "a setup with shards"
        steady_products()
        self.setup, self.shards, self.ranks = setup, setup.shards, list(ranks)
        self.device, self._reduce = torch.device(device), reduce
        self._checkpoint_seconds = checkpoint_seconds
        self._task: PackTask | None = None
        self._group: ShardGroup
        self._kind: StepKind
        self._states: list[PackState] = []
        self._taken, self._at = -1, ShardState()
        self._written = time.monotonic()

    def place(self) -> Place:
        """Where this worker runs."""
        return Place(os.getpid(), socket.gethostname(), str(self.device))

    def advance(self, task: PackTask, state: bytes | None, steps: int) -> Chunk:
        """Take up to `steps` steps, together with the other shards, from where `state` says (None: the start)."""
        with threads(self.setup.cpus):
            started = time.perf_counter()
            self._ready(task, ShardState() if state is None else ShardState.from_bytes(state))
            before, began, began_ms = self._states[0].step, time.perf_counter(), time.time_ns() // 1_000_000
            self._states, trajectory = self._group.advance(self._states, steps)
            self._taken += steps
            self._agree()
            self._keep(task, time.monotonic() - self._written > self._checkpoint_seconds)
            seconds = time.perf_counter() - began
        n, now = len(task.configurations), self._states[0]
        recorded = (trajectory.loss, trajectory.elbo, trajectory.grad_norm)
        return Chunk(
            state=replace(self._at, steps=self._taken).to_bytes(),
            before=_array(before)[:n],
            after=_array(now.step)[:n],
            skipped=_array(now.skipped)[:n],
            alive=_array(now.alive)[:n],
            curves={name: _array(values)[:, :n] for name, values in zip(CURVES, recorded, strict=True)},
            began_ms=began_ms,
            ended_ms=time.time_ns() // 1_000_000,
            seconds=seconds,
            preparing=began - started,
            kind=self._kind,
        )

    def evaluate(self, task: PackTask, state: bytes) -> Evaluated:
        """Evaluate every configuration of a pack in float64, without gathering rows."""
        with threads(self.setup.cpus):
            started = time.perf_counter()
            self._ready(task, ShardState.from_bytes(state))
            began = time.perf_counter()
            prepared, states = self._trained_on(), [state.at_average() for state in self._states]
            sharding = told(self._group, self.ranks, self.shards.count, prepared, self._reduce)
            outcomes = [replace(outcome, sharding=sharding) for outcome in self._outcomes(task, states)]
            self._write_local(task, states)
            # Those that go on do so in another pack, perhaps elsewhere.
            self._keep(task, task.pause is not None)
            seconds = time.perf_counter() - began
        return Evaluated(tuple(outcomes), seconds, began - started)

    def describe(self, task: PackTask) -> tuple[StepKind, int]:
        """How a pack would step and how many bytes a step would take at most on the first shard here."""
        with threads(self.setup.cpus):
            prepared = self.prepared(DTYPES[task.configurations[0].dtype])[0]
            # Described by one process alone, which knows no mode; nor would it change the shapes of a step.
            program = make_program(task, prepared, prepared.dtype, self.device, find_mode=lambda: None)
            joint = program.joint
            kind = StepKind(joint.mode, joint.reason, False, "a step of shards is compiled in two halves")
            if joint.mode != "flat":
                return kind, 0
            return kind, peak_bytes(trace(program.own, *program.own_example()))

    def prepared(self, dtype: torch.dtype, device: torch.device | str | None = None) -> list[PreparedModel]:
        """The model on the rows of each shard here; absent another device, where packs are stepped."""
        return [prepare(self.setup, dtype, device or self.device, rank=rank) for rank in self.ranks]

    def _ready(self, task: PackTask, at: ShardState) -> None:
        """Have the pack's program, and the states of its shards there."""
        if self._task != task:
            dtype = DTYPES[task.configurations[0].dtype]
            programs = [
                make_program(task, prepared, dtype, self.device, find_mode=lambda: self._mode)
                for prepared in self.prepared(dtype)
            ]
            self._group = ShardGroup(programs, self._reduce)
            decision = self._group.compile(self.setup.compile, task.program_steps)
            joint = programs[0].joint
            self._kind = StepKind(joint.mode, joint.reason, decision.compiled, decision.reason)
            self._task, self._taken = task, -1
        # All shards begin again where one of them has to.
        missing = self._reduce([torch.tensor([float(self._taken != at.steps)])] * len(self.ranks))
        self._at = at
        if float(missing) == 0.0:
            return
        kept = self._checkpoints(task.index)
        newest = 0 if kept is None else kept.newest(at.steps)
        if newest and kept is not None:
            self._states = kept.read(newest, self.ranks, self.device)
        else:
            self._states, newest = self._begun(at, task.width), at.paused
        self._states, _ = self._group.advance(self._states, at.steps - newest)
        self._taken = at.steps

    def _begun(self, at: ShardState, width: int) -> list[PackState]:
        """The states with which a pack begins: its own, or those that its columns had in the packs they come from."""
        if not at.sources:
            return self._group.start()
        parts: dict[int, list[PackState]] = {}
        for pack, _ in at.sources:
            kept = self._checkpoints(pack)
            assert kept is not None, "shards that pause have a directory"
            if pack not in parts:
                parts[pack] = kept.read(at.paused, self.ranks, self.device)
        return [
            gather([(parts[pack][place], row) for pack, row in at.sources], width)
            for place in range(len(self.ranks))
        ]

    def _agree(self) -> None:
        """Raise `RuntimeError` if the shards' shared params are not the same, bit for bit."""
        shared = self._group.shared(self._states)
        digest = hashlib.blake2b(_array(shared).tobytes(), digest_size=5).digest()
        mine = float(int.from_bytes(digest, "little"))
        parts = [torch.tensor([mine, 1.0], dtype=torch.float64)] * len(self.ranks)
        summed, shards = self._reduce(parts).tolist()
        if summed != mine * shards:
            raise RuntimeError("the shards' shared params have come apart; their processors may differ")

    def _keep(self, task: PackTask, due: bool) -> None:
        """Write a checkpoint if one is due anywhere."""
        kept = self._checkpoints(task.index)
        if kept is None:
            return
        if float(self._reduce([torch.tensor([float(due)])] * len(self.ranks))) == 0.0:
            return
        for rank, state in zip(self.ranks, self._states, strict=True):
            kept.write(self._taken, rank, state)
        self._written = time.monotonic()
        self._reduce([torch.zeros(1)] * len(self.ranks))  # all parts are there
        if 0 in self.ranks:
            kept.forget_old()

    def _checkpoints(self, pack: int) -> Checkpoints | None:
        if not self.shards.directory:
            return None
        return Checkpoints(self.shards.directory, pack, self.shards.count)

    def _outcomes(self, task: PackTask, states: Sequence[PackState]) -> list[Outcome]:
        """Every configuration settled and judged at these states, with the log joint of all shards."""
        program, now = self._group.programs[0], states[0]
        samples, halves = task.samples or self.setup.samples, [state.at_half() for state in states]
        settled = program.family.settled
        judge = Judge(
            program.layout, program.family, self._joint, Evaluator(self._joint.value, settled, samples)
        )
        ends, halfway = (fitted(program, self._group.shared(at)) for at in (states, halves))
        weights: list[tuple[Tensor, Tensor]] | None = None
        if program.step.local is not None and program.family.has_density:
            last = self._log_weights(task, states, samples)
            whole = any(is_whole(one, now, row) for row, one in enumerate(task.configurations))
            earlier = self._log_weights(task, halves, min(DRAWS, samples)) if whole else last
            weights = list(zip(last, earlier, strict=True))
        outcomes = [
            judge(one, now, row, ends[row], halfway[row], None if weights is None else weights[row])
            for row, one in enumerate(task.configurations)
        ]
        return [self._scorer(outcome, settled, samples) for outcome in outcomes]

    def _log_weights(self, task: PackTask, states: Sequence[PackState], samples: int) -> Tensor:
        """Log weights `(C, samples)` where every shard has latents of its own."""
        precise = [
            make_program(task, prepared, torch.float64, prepared.device, all_rows=True)
            for prepared in self.prepared(torch.float64, "cpu")
        ]
        wide = [_precise(state) for state in states]
        return ShardGroup(precise, self._reduce).log_weights(wide, samples)

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self.setup, self.prepared(torch.float64, "cpu"), self._reduce)

    @cached_property
    def _joint(self) -> SummedJoint:
        """The log joint of all shards, in float64 on the CPU."""
        precise = self.prepared(torch.float64, "cpu")
        joints, values = [one.joint() for one in precise], [one.values for one in precise]
        return SummedJoint(joints, values, self._reduce)

    @cached_property
    def _mode(self) -> Mode | None:
        """The mode of the log joint of all shards, found once and by all of them together."""
        precise = self.prepared(torch.float64, "cpu")[0]
        return find_mode(self._joint, precise.start, precise.layout.size)

    def _trained_on(self) -> list[PreparedModel]:
        """The models of the pack's programs."""
        return self.prepared(self._group.programs[0].dtype)

    def _write_local(self, task: PackTask, states: Sequence[PackState]) -> None:
        if not self.shards.directory:
            return
        each = zip(self.ranks, self._group.programs, states, self._trained_on(), strict=True)
        for rank, program, state, model in each:
            if program.step.local is not None:
                write_local(self.shards.directory, rank, program, state, model, task)


def _precise(state: PackState) -> PackState:
    """The state with its params in float64, on the CPU."""
    return PackState(state.params.to("cpu", torch.float64), *(one.cpu() for one in state.tensors()[1:]))


def _array(values: Tensor) -> Array:
    return values.detach().cpu().numpy()
