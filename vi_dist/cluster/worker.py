"""The worker: steps and evaluates packs. A plain class; a Ray actor is a few lines around it."""

from __future__ import annotations

import logging
import os
import socket
import time

import torch
from torch import Tensor

from vi_dist.cluster.columns import DTYPES
from vi_dist.cluster.halves import halved, joined
from vi_dist.cluster.judgement import Judge, fitted
from vi_dist.cluster.memory import peak_bytes
from vi_dist.cluster.prepared import PreparedModel, prepare
from vi_dist.cluster.programs import Programs, make_program
from vi_dist.cluster.scoring import Scorer
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import CURVES, Array, Chunk, Evaluated, PackTask, Place, StepKind
from vi_dist.evaluation.evaluate import Evaluator
from vi_dist.sweep.configuration import Choice
from vi_dist.vi.context import steady_products, threads
from vi_dist.vi.guides.family import Family
from vi_dist.vi.out_of_memory import is_out_of_memory
from vi_dist.vi.pack import PackProgram
from vi_dist.vi.state import PackState

log = logging.getLogger(__name__)


class PackWorker:
    """Steps packs and evaluates them, one call at a time.

    Every call carries the state that it starts from, so that a call can be repeated here or elsewhere with the same
    result; what is kept between calls (model, traces, the last program) only saves time.

    Args:
        setup: the sweep's model, data and evaluation.
        device: where packs are stepped; evaluation is float64 on the CPU.
    """

    def __init__(self, setup: Setup, device: torch.device | str = "cpu") -> None:
        steady_products()
        self.setup, self.device = setup, torch.device(device)
        self._judges: dict[tuple[Choice, int], Judge] = {}
        self._programs = Programs(setup.compile, self.device)
        self._too_wide: set[tuple[int, int]] = set()
        self._scorer = Scorer(setup, [self.model(torch.float64)])

    def place(self) -> Place:
        """Where this worker runs."""
        return Place(os.getpid(), socket.gethostname(), str(self.device))

    def advance(self, task: PackTask, state: bytes | None, steps: int) -> Chunk:
        """Take up to `steps` steps from `state` (None: from the start). Raises `ModelError` for a faulty model.

        A pack that memory cannot hold is stepped in halves: the same fits, up to the order of sums.
        """
        if (task.index, task.width) not in self._too_wide:
            chunk = self._advance_if_it_fits(task, state, steps)
            if chunk is None:  # because of what other packs' programs hold, perhaps
                chunk = self._advance_if_it_fits(task, state, steps, last_try=task.width == 1)
            if chunk is not None:
                return chunk
            self._too_wide.add((task.index, task.width))
            words = "pack %d of %d columns does not fit into memory: it is stepped in halves"
            log.warning(words, task.index, task.width)
        return joined(task, [self.advance(*part, steps) for part in halved(task, state)])

    def _advance_if_it_fits(
        self, task: PackTask, state: bytes | None, steps: int, last_try: bool = False
    ) -> Chunk | None:
        """The steps; None where memory is short, and then no program is kept."""
        try:
            return self._advance(task, state, steps)
        except (MemoryError, RuntimeError) as error:
            if last_try or not is_out_of_memory(error):
                raise
        # Not while the exception is there, whose frames hold on to the step's tensors.
        self._programs = Programs(self.setup.compile, self.device)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _advance(self, task: PackTask, state: bytes | None, steps: int) -> Chunk:
        with threads(self.setup.cpus):
            started = time.perf_counter()
            program = self._program_for(task)
            now = PackState.from_bytes(program.start().to_bytes() if state is None else state, self.device)
            began, began_ms = time.perf_counter(), _now_ms()
            after, trajectory = program.advance(now, steps)
            content = after.to_bytes()
            seconds = time.perf_counter() - began
        n = len(task.configurations)
        recorded = (trajectory.loss, trajectory.elbo, trajectory.grad_norm)
        return Chunk(
            state=content,
            before=_array(now.step)[:n],
            after=_array(after.step)[:n],
            skipped=_array(after.skipped)[:n],
            alive=_array(after.alive)[:n],
            curves={name: _array(values)[:, :n] for name, values in zip(CURVES, recorded, strict=True)},
            began_ms=began_ms,
            ended_ms=_now_ms(),
            seconds=seconds,
            preparing=began - started,
            kind=self._programs.kind,
        )

    def evaluate(self, task: PackTask, state: bytes) -> Evaluated:
        """Settle and evaluate every configuration of a pack at `state`, on the noise common to all configurations."""
        with threads(self.setup.cpus):
            started = time.perf_counter()
            program = self._evaluated(task)
            family = program.family
            judge = self._judge_for(task, family)
            began = time.perf_counter()
            now = PackState.from_bytes(state).at_average()
            ends, halfway = fitted(program, now.params), fitted(program, now.halfway)
            outcomes = [
                judge(configuration, now, row, ends[row], halfway[row])
                for row, configuration in enumerate(task.configurations)
            ]
            samples = task.samples or self.setup.samples
            outcomes = [self._scorer(outcome, family.settled, samples) for outcome in outcomes]
            seconds = time.perf_counter() - began
        return Evaluated(tuple(outcomes), seconds, began - started)

    def describe(self, task: PackTask) -> tuple[StepKind, int]:
        """How a pack would step and how many bytes a step would take at most, without compiling or stepping."""
        with threads(self.setup.cpus):
            prepared = self.model(DTYPES[task.configurations[0].dtype], self.device)
            kind, graph = self._programs.describe(task, prepared)
        return kind, 0 if graph is None else peak_bytes(graph)

    def model(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> PreparedModel:
        """The model in one dtype on one device."""
        return prepare(self.setup, dtype, device)

    def _program_for(self, task: PackTask) -> PackProgram:
        return self._programs.get(task, self.model(DTYPES[task.configurations[0].dtype], self.device))

    def _evaluated(self, task: PackTask) -> PackProgram:
        """The pack's program where it is evaluated, on the CPU: as it knows its guides, neither traced nor compiled."""
        dtype = DTYPES[task.configurations[0].dtype]
        trained = self.model(dtype, self.device)
        return make_program(
            task,
            self.model(torch.float64),
            dtype,
            torch.device("cpu"),
            all_rows=True,
            find_mode=lambda: trained.mode,
        )

    def _judge_for(self, task: PackTask, family: Family) -> Judge:
        key = (task.configurations[0].guide, task.samples or self.setup.samples)
        if key not in self._judges:
            precise = self.model(torch.float64)
            evaluator = Evaluator(precise.values, family.settled, key[1])
            joint = precise.joint(family.jacobian)
            self._judges[key] = Judge(precise.layout, family, joint, evaluator)
        return self._judges[key]


def _array(values: Tensor) -> Array:
    return values.detach().cpu().numpy()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
