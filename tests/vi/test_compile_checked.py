"""A compiled program that gives other numbers than its graph is not used: the graph runs, and one warning says so.

The programs here are the graphs themselves, run turn by turn as a compiled loop runs them, with one fault planted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import HalfNormal, Normal
from torch.fx import GraphModule

from vi_dist.model.decorators import random_variable
from vi_dist.model.model import Model
from vi_dist.vi import divergences, estimators
from vi_dist.vi.columns import Column
from vi_dist.vi.compile import Decision
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.layout import make_layout
from vi_dist.vi.optimizers import OPTIMIZERS
from vi_dist.vi.pack import PackProgram
from vi_dist.vi.shards import ShardGroup
from vi_dist.vi.state import PARTS, PackState, Trajectory
from vi_dist.vi.trace import trace_joint

Make = Callable[..., Any]
Tensors = list[Tensor]

TURNS = 5
SCORED, NORMALISED = 1, 2
PARAMS, BUFFERS, STEP = 0, 1, 3


def spread(rows: int = 12) -> Model:
    """A scale and a mean, so that the guide's coordinates have slopes of their own."""
    y = torch.linspace(-1.0, 3.0, rows)

    @random_variable
    def mu() -> Normal:
        return Normal(torch.zeros(2), 2.0)

    @random_variable
    def tau() -> HalfNormal:
        return HalfNormal(torch.tensor(1.0))

    @random_variable
    def obs() -> Normal:
        return Normal(mu()[0] + mu()[1] * y, tau())

    return Model([mu(), tau()], {obs(): y})


def columns(column: Make) -> list[Column]:
    return [
        column(0, steps=40),
        column(1, estimator=estimators.score, steps=40),
        column(2, divergence=divergences.amari(0.5), estimator=estimators.self_normalised, steps=40),
        column(3, estimator=estimators.dreg, steps=40),
        column(4, divergence=divergences.pearson_chi2, steps=40, learning_rate=0.003),
    ]


Plant = Callable[[int, Tensors, Tensors], Tensors]
"""The turn, what the loop was given at it, and what it makes; returns what the faulty one makes."""


def loop(plant: Plant, again: bool = False) -> Callable[..., Callable[..., tuple[Tensor, ...]]]:
    """What takes the place of `compile_steps`; `again`: every turn has the noise of the first."""

    def compile_steps(step: GraphModule, vary: GraphModule, *_: Any) -> Callable[..., tuple[Tensor, ...]]:
        def take(*inputs: Tensor) -> tuple[Tensor, ...]:
            first = state = list(inputs[:PARTS])
            given, rest = inputs[PARTS : PARTS + 3], inputs[PARTS + 3 :]
            records = []
            for turn in range(TURNS):
                noise = vary(*(first if again else state), *given)
                *after, loss, elbo, norm = plant(turn, state, [*step(*state, *noise, *rest)])
                state = after
                records.append((loss, elbo, norm))
            return *state, *(torch.stack(parts) for parts in zip(*records, strict=True))

        return take

    return compile_steps


def scaled(place: int, row: int, factor: float) -> Plant:
    def plant(_: int, before: Tensors, made: Tensors) -> Tensors:
        rows = torch.ones(len(made[STEP]), dtype=made[PARAMS].dtype)
        rows[row] = factor
        if place == PARAMS:
            made[place] = before[place] + rows[:, None] * (made[place] - before[place])
        else:
            made[place] = rows * made[place]
        return made

    return plant


def old_buffers(turn: int, before: Tensors, made: Tensors) -> Tensors:
    return [*made[:BUFFERS], before[BUFFERS] if turn else made[BUFFERS], *made[BUFFERS + 1 :]]


def whole(_: int, before: Tensors, made: Tensors) -> Tensors:
    return made


LOSS, NORM = PARTS, PARTS + 2
FAULTS = {
    "the state that a turn hands on": loop(old_buffers),
    "the noise of a turn": loop(whole, again=True),
    "the loss of a self-normalised column": loop(scaled(LOSS, NORMALISED, 1.01)),
    "the step of a self-normalised column": loop(scaled(PARAMS, NORMALISED, 1.02)),
    "the gradient of a score column": loop(scaled(NORM, SCORED, 1.01)),
}


Plain = Callable[[torch.dtype], tuple[PackProgram, tuple[PackState, Trajectory]]]


@pytest.fixture(scope="module")
def plain(engine: Make, column: Make) -> Plain:
    """A program of that precision, and seven steps by its graph; a program that was refused leaves it as it was."""

    @cache
    def of(dtype: torch.dtype) -> tuple[PackProgram, tuple[PackState, Trajectory]]:
        program = engine(spread, "full_rank", dtype).program(columns(column))
        return program, program.advance(program.start(), 7)

    return of


def compiled(
    program: PackProgram,
    take: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Decision:
    monkeypatch.setattr("vi_dist.vi.pack.compile_steps", take)
    monkeypatch.setattr("vi_dist.vi.pack._MANY_STEPS", TURNS)
    with caplog.at_level(logging.WARNING):
        return program.compile("always")


def assert_steps(program: PackProgram, expected: tuple[PackState, Trajectory]) -> None:
    state, trajectory = program.advance(program.start(), 7)
    assert torch.equal(state.params, expected[0].params)
    assert torch.equal(trajectory.loss, expected[1].loss)


DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_program_of_a_pack_is_not_used(
    plain: Plain,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: str,
    dtype: torch.dtype,
) -> None:
    program, expected = plain(dtype)
    decision = compiled(program, FAULTS[fault], monkeypatch, caplog)
    assert not decision.compiled and "runs eagerly" in decision.reason
    assert len(caplog.records) == 1
    assert_steps(program, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_program_without_fault_is_used(
    engine: Make,
    column: Make,
    plain: Plain,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    dtype: torch.dtype,
) -> None:
    program = engine(spread, "full_rank", dtype).program(columns(column))
    assert compiled(program, loop(whole), monkeypatch, caplog).compiled
    assert not caplog.records
    assert_steps(program, plain(dtype)[1])


def shards(column: Make, reduces: Sequence[Callable[[Sequence[Tensor]], Tensor]]) -> list[ShardGroup]:
    """Two shards, of 12 rows each, each in a group of its own as in a process of its own."""
    programs = []
    for rank in range(2):
        with model_context(torch.float64):
            made = spread(12)
            layout = make_layout(made, sharded=True)
        guide, adam = GUIDES["full_rank"].make(layout.noise), OPTIMIZERS["adam"].make()
        joint = trace_joint(Density(made, layout, guide.jacobian, owner=rank == 0), dtype=torch.float64)
        programs.append(PackProgram(joint, layout, guide, adam, 4, columns(column), 8))
    return [ShardGroup([program], reduce) for program, reduce in zip(programs, reduces, strict=True)]


Reduce = Callable[[Sequence[Tensor]], Tensor]


def meeting() -> list[Reduce]:
    """The sum over two shards in two threads, which wait there for each other as processes do."""
    met, parts = threading.Barrier(2, timeout=60), {}

    def reduce(rank: int) -> Reduce:
        def meet(mine: Sequence[Tensor]) -> Tensor:
            parts[rank] = sum(mine[1:], mine[0])
            met.wait()
            summed = parts[0] + parts[1]
            met.wait()
            return summed

        return meet

    return [reduce(0), reduce(1)]


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """What both shards return."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(work, range(2)))


def advanced(groups: Sequence[ShardGroup]) -> list[Tensor]:
    """The params of both shards after six steps."""

    def advance(rank: int) -> Tensor:
        (state,), _ = groups[rank].advance(groups[rank].start(), 6)
        return state.params

    return at_once(advance)


@pytest.fixture(scope="module")
def two(column: Make) -> tuple[list[ShardGroup], list[Tensor]]:
    """Two shards, and where six steps by their graphs lead; programs that were refused leave them as they were."""
    groups = shards(column, meeting())
    for group in groups:
        group._prepare()  # torch traces in one thread only
    return groups, advanced(groups)


@pytest.mark.parametrize(
    ("which", "place"), [("own", 0), ("rest", PARAMS), ("rest", BUFFERS), ("rest", NORM)]
)
def test_all_shards_step_by_their_graphs_if_one_has_a_faulty_half(
    two: tuple[list[ShardGroup], list[Tensor]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    which: str,
    place: int,
) -> None:
    groups, expected = two
    faulty = (groups[1]._own if which == "own" else groups[1]._rest)[0]

    def compile_graph(graph: GraphModule, *_: Any) -> Callable[..., tuple[Tensor, ...]]:
        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            made = list(graph(*inputs))
            if graph is faulty:
                made[place] = 1.01 * made[place]
            return tuple(made)

        return run

    monkeypatch.setattr("vi_dist.vi.shards.compile_graph", compile_graph)
    with caplog.at_level(logging.WARNING):
        decisions = at_once(lambda rank: groups[rank].compile("always", 10))
    assert not any(decision.compiled for decision in decisions)
    assert all("runs eagerly" in decision.reason for decision in decisions)
    assert len(caplog.records) == 1
    assert all(map(torch.equal, advanced(groups), expected))
