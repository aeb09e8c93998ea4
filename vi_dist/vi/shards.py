"""Shards of one model, stepping together: each says what its rows say, the sum goes to all (MATH: f of a sum)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.fx import GraphModule

from vi_dist.vi.compile import Decision, compile_graph, decide
from vi_dist.vi.compile_checked import apart, check_agreement, compile_checked, nudged, rounding_errors
from vi_dist.vi.graph import trace
from vi_dist.vi.noise import EVALUATION, TRAINING, NormalSource
from vi_dist.vi.pack import NOISE_BLOCK, PackProgram
from vi_dist.vi.state import PARTS, PackState, Trajectory, step_changes
from vi_dist.vi.summed_joint import Reduce, total

Half = Callable[..., tuple[Tensor, ...]]
"""`PackProgram.own` or `PackProgram.rest` of one shard: its Python, its flat graph, or what was compiled of that."""

_Halves = tuple[list[Half], list[Half]]


@dataclass
class StepTimes:
    """Seconds that the shards in this process spent computing, and in reductions (waiting for others included)."""

    compute: float = 0.0
    reduce: float = 0.0
    steps: int = 0
    reduced_bytes: int = field(default=0)


class ShardGroup:
    """The shards of a model that live in this process, and how they add up with those elsewhere.

    All shards have the same guide for what they share, draw the same samples of it and hold the same params, bit for
    bit; each has besides the latents of its own rows, with their guide.

    Args:
        programs: one per shard here, made with the shard's own joint and row numbers (`PackProgram`, `ids`).
        reduce: the sum over all shards.
    """

    def __init__(self, programs: Sequence[PackProgram], reduce: Reduce = total) -> None:
        self.programs, self.reduce = list(programs), reduce
        self.times = StepTimes()
        self._own: list[Half] = []
        self._rest: list[Half] = []

    def start(self) -> list[PackState]:
        """Every shard's state before the first step."""
        if not any(column.needs_shift for column in self.programs[0].columns):
            return [program.start() for program in self.programs]
        with torch.no_grad():
            own = self.reduce(
                [
                    program.step.own_value(program.first_params(), program.shift_noise(), *program.batch(0))
                    for program in self.programs
                ]
            )
        return [program.start(own) for program in self.programs]

    def advance(self, states: Sequence[PackState], steps: int) -> tuple[list[PackState], Trajectory]:
        """Take up to `steps` steps with every column that is alive and has steps left, on all shards."""
        if not self._own:
            self._prepare()
        tensors = [tuple(state.tensors()) for state in states]
        # Columns step together, so that the one furthest on tells how many steps the pack has taken.
        taken = int(states[0].step.max())
        records: list[tuple[Tensor, ...]] = []
        numbers = sum(max(1, program.noise_size) for program in self.programs)
        block = max(1, NOISE_BLOCK // numbers)
        with torch.no_grad():
            for first in range(0, steps, block):
                ahead = torch.arange(min(block, steps - first), device=self.programs[0].device)[:, None]
                noises = [
                    program.noise(TRAINING, now[3] + ahead)
                    for program, now in zip(self.programs, tensors, strict=True)
                ]
                for offset, eps in enumerate(zip(*noises, strict=True)):
                    tensors, record = self._step(tensors, eps, taken + first + offset)
                    records.append(record)
        nothing = torch.zeros(0, self.programs[0].width, dtype=self.programs[0].dtype)
        loss, elbo, norm = map(torch.stack, zip(*records, strict=True)) if records else (nothing,) * 3
        return [PackState(*now) for now in tensors], Trajectory(loss, elbo, norm)

    def log_weights(self, states: Sequence[PackState], samples: int) -> Tensor:
        """Log weights `(C, samples)` on the evaluation's noise, which is common to all configurations."""
        parts = []
        with torch.no_grad():
            # The same on every shard, or they would not meet.
            widths = [torch.tensor([float(p.joint.widest * p.width)]) for p in self.programs]
            widest = int(self.reduce(widths))
            at_once = max(1, _EVALUATED_NUMBERS // max(1, widest))
            for first in range(0, samples, at_once):
                count = min(at_once, samples - first)
                noises = [self._evaluation_noise(program, first, count) for program in self.programs]
                own = self.reduce(
                    [
                        program.step.own_value(state.params, eps)
                        for program, state, eps in zip(self.programs, states, noises, strict=True)
                    ]
                )
                parts.append(own - self.programs[0].step.checked_log_q(states[0].params, noises[0]))
        return torch.cat(parts, 1)

    def shared(self, states: Sequence[PackState]) -> Tensor:
        """The params that all shards share, `(C, P)`. Raises `AssertionError` if the shards here differ in them."""
        size = self.programs[0].step.shared_size
        first = states[0].params[:, :size]
        for state in states[1:]:
            assert torch.equal(first, state.params[:, :size]), "the shards' shared params have come apart"
        return first

    def compile(self, mode: str, steps: int, cache: Path | None = None) -> Decision:
        """Compile each half of the step if that pays; see `PackProgram.compile`. The decision is that on the rows."""
        if any(program.joint.mode != "flat" for program in self.programs):
            return Decision(False, f"the model runs as a loop over samples: {self.programs[0].joint.reason}")
        if not self._own:
            self._prepare()
        decision = self._decision(mode, self._own[0], steps)
        make = partial(self._compiled, mode, steps, cache)
        graphs = (self._own, self._rest)
        (self._own, self._rest), fault = compile_checked(make, self._check, graphs, self._anywhere)
        return Decision(False, fault) if fault else decision

    def _compiled(self, mode: str, steps: int, cache: Path | None) -> _Halves:
        """Each half of each shard here as it is to run: compiled where that pays."""
        own, rest = list(self._own), list(self._rest)
        for place, program in enumerate(self.programs):
            if self._decision(mode, own[place], steps).compiled:
                own[place] = _compile(own[place], program.own_example(), cache)
            if self._decision(mode, rest[place], steps).compiled:
                rest[place] = _compile(rest[place], program.rest_example(), cache)
        return own, rest

    def _check(self, made: _Halves) -> None:
        """Raise `Miscompiled` unless the compiled halves give the numbers of their graphs, all outputs."""
        for place, program in enumerate(self.programs):
            _check_own(program, made[0][place], self._own[place])
            _check_rest(program, made[1][place], self._rest[place])

    @staticmethod
    def _decision(mode: str, half: Half, steps: int) -> Decision:
        assert isinstance(half, GraphModule), "a flat program"
        return decide(mode, half, steps)

    def _anywhere(self, failed: bool) -> bool:
        """Whether it failed on any shard: all of them take their steps alike."""
        failures = self.reduce([torch.tensor([float(failed)])] * len(self.programs))
        return float(failures) > 0

    def _prepare(self) -> None:
        """Flat graphs where the model has one, else its Python."""
        self._own, self._rest = [], []
        for program in self.programs:
            flat = program.joint.mode == "flat"
            self._own.append(trace(program.own, *program.own_example()) if flat else program.own)
            self._rest.append(trace(program.rest, *program.rest_example()) if flat else program.rest)

    def _step(
        self, tensors: Sequence[tuple[Tensor, ...]], eps: Sequence[Tensor], number: int
    ) -> tuple[list[tuple[Tensor, ...]], tuple[Tensor, ...]]:
        started = time.perf_counter()
        halves = [
            own(now[0], noise, *program.batch(number))
            for own, program, now, noise in zip(self._own, self.programs, tensors, eps, strict=True)
        ]
        computed = time.perf_counter()
        summed = self.reduce([half[0] for half in halves])
        reduced = time.perf_counter()
        outs = [
            rest(*now, noise, summed, half[1], *program.constants)
            for rest, program, now, noise, half in zip(
                self._rest, self.programs, tensors, eps, halves, strict=True
            )
        ]
        self.times.compute += computed - started + time.perf_counter() - reduced
        self.times.reduce += reduced - computed
        self.times.steps += 1
        self.times.reduced_bytes += summed.numel() * summed.element_size()
        return [out[:-3] for out in outs], outs[0][-3:]

    @staticmethod
    def _evaluation_noise(program: PackProgram, first: int, count: int) -> Tensor:
        source = NormalSource(program.space, [0], program.dtype, program.device)
        noise = source(EVALUATION, torch.zeros(1, 1, device=program.device), count, first)[0]
        return noise.expand(program.width, -1, -1)


def _compile(half: Half, example: Sequence[Tensor], cache: Path | None) -> Half:
    assert isinstance(half, GraphModule), "a flat program"
    return compile_graph(half, example, cache)


def _check_own(program: PackProgram, run: Half, graph: Half) -> None:
    """Raise `Miscompiled` unless a compiled `own` gives what its graph does."""
    first, *others = program.own_example()
    here = apart(first)

    def outputs(half: Half, params: Tensor) -> dict[str, Tensor]:
        summed, local = half(params, *others)
        return {"log weights": summed[..., 0], "slopes": summed[..., 1:], "local slopes": local}

    with torch.no_grad():
        check_agreement(outputs(run, here), outputs(graph, here), outputs(graph, nudged(here)))


def _check_rest(program: PackProgram, run: Half, graph: Half) -> None:
    """Raise `Miscompiled` unless a compiled `rest` takes the first step as its graph does, and the second."""
    example = program.rest_example()
    state, (eps, summed, *others) = PackState(*example[:PARTS]), example[PARTS:]

    before = replace(state, params=apart(state.params))
    with torch.no_grad():
        for _ in range(2):
            near = replace(before, params=nudged(before.params))
            found, expected = (half(*before.tensors(), eps, summed, *others) for half in (run, graph))
            rounded = graph(*near.tensors(), eps, nudged(summed), *others)
            made, theirs = step_changes(before, found), step_changes(before, expected)
            but = rounding_errors(theirs, summed[..., 1:])
            check_agreement(made, theirs, step_changes(near, rounded), but)
            before = PackState(*expected[:PARTS])


# Numbers in the largest intermediate of draws that are evaluated at once, summed over shards.
_EVALUATED_NUMBERS = 1 << 23
