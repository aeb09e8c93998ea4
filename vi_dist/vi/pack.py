"""A pack: configurations that share one program and advance in lockstep along a leading axis."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.fx import GraphModule

from vi_dist.vi.batches import Batches
from vi_dist.vi.columns import Column, column_tensors, group, padded
from vi_dist.vi.compile import Decision, compile_graph, compile_steps, decide
from vi_dist.vi.compile_checked import (
    apart,
    check_agreement,
    check_same_bits,
    compile_checked,
    nudged,
    rounding_errors,
)
from vi_dist.vi.estimators import log_mean_exp
from vi_dist.vi.graph import trace
from vi_dist.vi.guides.delta import DeltaFamily
from vi_dist.vi.guides.family import Family
from vi_dist.vi.guides.mean_field import MeanField
from vi_dist.vi.initialisation import Start
from vi_dist.vi.layout import Layout
from vi_dist.vi.noise import SHIFT, TRAINING, NoiseSpace, NormalSource
from vi_dist.vi.optimizers import Optimizer
from vi_dist.vi.out_of_memory import is_out_of_memory
from vi_dist.vi.replay import Replay
from vi_dist.vi.state import PARTS, STEP, PackState, Trajectory, changes, step_changes
from vi_dist.vi.step import Step
from vi_dist.vi.trace import JointProgram

log = logging.getLogger(__name__)

# Draws behind the first estimate of log Z.
SHIFT_DRAWS = 64
# Noise is made for several steps at once, up to so many numbers.
NOISE_BLOCK = 1 << 20

# Steps that a compiled program takes in one call: calling it costs as much as stepping a dozen columns.
_NARROW, _MANY_STEPS, _SOME_STEPS = 8, 64, 16
# Steps for which a compiled program is checked: the second is the first that sees what a loop hands on.
_CHECKED = 3
# Numbers of noise for the steps that are replayed in one go on a GPU.
_CUDA_NOISE = 1 << 24

StepsFunction = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class _Stepping:
    """How a pack's steps are taken.

    Attributes:
        take: some steps in one call: state, noise and the columns' numbers in, state and records out.
        at_once: how many.
        makes_noise: whether `take` makes the noise itself, and is given what that is made of.
    """

    take: StepsFunction
    at_once: int = 1
    makes_noise: bool = False


def local_guide(family: Family, space: NoiseSpace) -> Family:
    """The guide of the latents that belong to rows: independent Gaussians, or points beside a point."""
    return MeanField(space) if family.has_density else DeltaFamily(space)


class PackProgram:
    """The program of one pack.

    Args:
        joint: part A, the model's log joint over rows.
        layout: the model's coordinates.
        family: the guide family shared by all columns.
        optimizer: the update rule shared by all columns.
        num_samples: S, shared by all columns.
        columns: the configurations; at most `width`.
        width: number of columns the program has; the others take no step.
        kinds: columns whose divergences, estimators and schedules the program must know, if that is more than
            `columns`: those of all packs that share the program, or that may be refilled into it.
        ids: for a shard of a model, the numbers of its rows (or groups) among all, `(n,)`.
        batches: of a shard whose `joint` takes a batch of its rows (`trace_batches`), which rows at which step.
        start_of: where a guide starts, by the name of its initialisation; default: the layout's own place for all.
        dtype, device: of every number.

    The same columns at the same width give the same numbers wherever they run; a column's numbers do not depend on
    its neighbours.
    """

    def __init__(
        self,
        joint: JointProgram,
        layout: Layout,
        family: Family,
        optimizer: Optimizer,
        num_samples: int,
        columns: Sequence[Column],
        width: int | None = None,
        *,
        kinds: Sequence[Column] = (),
        ids: Tensor | None = None,
        batches: Batches | None = None,
        start_of: Callable[[str], Start] | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        self.joint, self.layout, self.family, self.optimizer = joint, layout, family, optimizer
        self.num_samples, self.dtype, self.device = num_samples, dtype, torch.device(device)
        self.width, self.batches = width or len(columns), batches
        sites = family.noise.sites
        local = None
        if ids is not None and layout.local:
            space = layout.local_noise(ids)
            local, sites = local_guide(family, space), (*sites, *space.sites)
        self.step = Step(joint, layout, family, local, optimizer)
        self.space = NoiseSpace(sites)
        kinds = (*kinds, *columns)
        self._start_of = start_of or (lambda name: Start(layout.loc))
        self._groups = group(kinds)
        self._schedules = sorted({c.schedule[0] for c in kinds})
        self._set_columns(padded(columns, width or len(columns)))
        self._graph: GraphModule | None = None
        self._one: StepsFunction | None = None
        self._normals: StepsFunction | None = None
        self._in_one_call: _Stepping | None = None

    # -- state ---------------------------------------------------------------------------------------------------

    def first_params(self) -> Tensor:
        """Params before the first step, `(C, P)`."""
        names = [column.initialisation for column in self.columns]
        made = {name: self.step.initial(self._start_of(name)) for name in dict.fromkeys(names)}
        return torch.stack([made[name] for name in names]).to(self.device, self.dtype)

    def start(self, own: Tensor | None = None) -> PackState:
        """The state before the first step.

        `own` is the sum over shards of `Step.own_value` at `shift_noise`, `(C, 64)`; without it, this shard is all.
        """
        c, on = self.width, self.device
        params = self.first_params()
        zeros = torch.zeros(c, dtype=self.dtype, device=on)
        count = torch.zeros(c, dtype=torch.int64, device=on)
        buffers = torch.zeros(self.optimizer.buffers, *params.shape, dtype=self.dtype, device=on)
        shift = self._first_shift(params, own)
        alive = torch.ones(c, dtype=torch.bool, device=on)
        return PackState(params, buffers, shift, count, count, count, zeros, alive, params, params)

    def refill(self, state: PackState, columns: Mapping[int, Column]) -> PackState:
        """The state with some columns replaced by new ones at their start; the others' numbers do not change.

        Raises `ValueError` for a column whose divergence, estimator or schedule the program does not know: it must be
        among `kinds`.
        """
        pairs = [one.example.pair for one in self._groups]
        for column in columns.values():
            if column.pair not in pairs or column.schedule[0] not in self._schedules:
                raise ValueError(f"the program does not know {column}: name it among its kinds")
        self._set_columns([columns.get(row, column) for row, column in enumerate(self.columns)])
        rows = torch.tensor([row in columns for row in range(self.width)], device=self.device)
        fresh = self.start()

        def merged(new: Tensor, old: Tensor, axis: int) -> Tensor:
            return torch.where(rows.reshape([-1 if k == axis else 1 for k in range(old.dim())]), new, old)

        return PackState(
            **{
                field.name: merged(
                    getattr(fresh, field.name), getattr(state, field.name), field.name == "buffers"
                )
                for field in fields(PackState)
            }
        )

    def _set_columns(self, columns: list[Column]) -> None:
        self.columns = columns
        self._noise = NormalSource(self.space, [c.seed for c in columns], self.dtype, self.device)
        like = torch.empty(0, dtype=self.dtype, device=self.device)
        self._columns = column_tensors(
            columns, self._groups, self._schedules, self.optimizer.coefficients, like
        )
        self.constants = self._columns.flat()
        even = [c.estimator.linear and c.estimator.uses_path for c in columns]
        self._even = torch.tensor(even, device=self.device)[:, None, None]

    def leaves(self, params: Tensor) -> dict[str, Tensor]:
        """The guide's leaves, named, `(C, *shape)`, of flat params `(C, P)`."""
        return self.step.leaves(params)

    def model_params(self, params: Tensor) -> Tensor:
        """The model's own params, flat, `(C, p)`."""
        return self.step.model_params(params)

    # -- stepping ------------------------------------------------------------------------------------------------

    def advance(self, state: PackState, steps: int) -> tuple[PackState, Trajectory]:
        """Take up to `steps` steps with every column that is alive and has steps left."""
        records: list[tuple[Tensor, ...]] = []
        tensors: Sequence[Tensor] = state.tensors()
        take, at_once = self._stepping.take, self._stepping.at_once
        # A compiled program takes its number of steps: those beyond the last one wanted change nothing.
        last = torch.minimum(self.constants[0], state.step + steps)
        # A program that makes noise makes that of one call.
        makes_noise = self._stepping.makes_noise or self._normals is not None
        blocks = 1 if makes_noise else max(1, NOISE_BLOCK // (max(1, self.noise_size) * at_once))
        block = at_once * blocks
        with torch.no_grad():
            for first in range(0, steps, block):
                count = min(block, -(-(steps - first) // at_once) * at_once)
                for given in self._given(tensors[STEP], count):
                    *tensors, loss, elbo, norm = take(*tensors, *given, last, *self.constants[1:])
                    records.append((loss, elbo, norm))
        nothing = torch.zeros(0, self.width, dtype=self.dtype, device=self.device)
        loss, elbo, norm = map(torch.cat, zip(*records, strict=True)) if records else (nothing,) * 3
        return PackState(*tensors), Trajectory(loss[:steps], elbo[:steps], norm[:steps])

    @property
    def _stepping(self) -> _Stepping:
        return self._in_one_call or _Stepping(self._one_step)

    def _given(self, first: Tensor, steps: int) -> list[tuple[Tensor, ...]]:
        """For every call ahead, what it is given besides state and constants: noise, or what that is made of for one.

        `first` is the number of each column's first step, `(C,)`.
        """
        if self._stepping.makes_noise:
            return [self._noise_inputs()]
        ahead = torch.arange(steps, device=self.device)[:, None]
        return [(eps,) for eps in self.noise(TRAINING, first + ahead).split(self._stepping.at_once)]

    def _one_step(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One step of the flat graph or, in a loop, of the model itself; noise and records have an axis of one step."""
        step = self._one or self.graph() or self._step_once
        *tensors, loss, elbo, norm = step(*inputs[:PARTS], inputs[PARTS][0], *inputs[PARTS + 1 :])
        return *tensors, loss[None], elbo[None], norm[None]

    def graph(self) -> GraphModule | None:
        """One step as a flat graph, traced on first use; None if the model runs as a loop."""
        if self._graph is None and self.joint.mode == "flat":
            self._graph = trace(self._step_once, *self._example())
        return self._graph

    def compile(self, mode: str = "auto", steps: int = 0, cache: Path | None = None) -> Decision:
        """Compile the step if that pays; returns the decision and its reason. A failure leaves the eager graph.

        Args:
            mode: `auto`, `always` or `never`.
            steps: steps ahead, summed over all packs that share this program.
            cache: directory of compiled programs; the user's by default.
        """
        graph = self.graph()
        if graph is None:
            return Decision(False, f"the model runs as a loop over samples: {self.joint.reason}")
        decision, on_cuda = decide(mode, graph, steps), self.device.type == "cuda"
        if decision.compiled:
            make = self._compile_for_cuda if on_cuda else self._compile_for_cpu
            _, fault = compile_checked(lambda: make(graph, cache), lambda _: self._check(), None)
            if fault:
                self._one = self._normals = self._in_one_call = None
                decision = Decision(False, fault)
        return self._replayed(decision) if on_cuda else decision

    def _compile_for_cpu(self, graph: GraphModule, cache: Path | None) -> None:
        """Several steps, each with its noise, as one program."""
        example, given = self._example(), self._noise_inputs()

        def noise(*inputs: Tensor) -> tuple[Tensor, ...]:
            first, second, even = inputs[PARTS:]
            normals = self._noise.out_of_place(inputs[STEP][None], self.num_samples, first, second)
            return (self._covering(normals, even)[0],)

        vary = trace(noise, *example[:PARTS], *given)
        inputs = (example[:PARTS], given, example[PARTS + 1 :])
        at_once = _MANY_STEPS if self.width <= _NARROW else _SOME_STEPS
        take = compile_steps(graph, vary, inputs, at_once, cache)
        self._in_one_call = _Stepping(take, at_once, makes_noise=True)

    def _apart(self) -> PackState:
        """A start at which no two coordinates are equal, so that it shows if one is taken for another."""
        state = self.start()
        return replace(state, params=apart(state.params))

    def _check(self) -> None:
        """Raise `Miscompiled` unless the compiled steps are the graph's, and the same in one call as in several.

        They are compared with the graph where they start and once more in their course, where noise and buffers differ.
        """
        states, records = [self._apart()], []
        for _ in range(_CHECKED):
            after, record = self.advance(states[-1], 1)
            states.append(after)
            records.append(record)
        last, whole = self.advance(states[0], _CHECKED)
        each = Trajectory(*(torch.cat([getattr(one, f.name) for one in records]) for f in fields(Trajectory)))
        check_same_bits(changes(states[0], last, whole), changes(states[0], states[-1], each))
        for step in (0, _CHECKED - 1):
            found = changes(states[step], states[step + 1], records[step])
            check_agreement(found, *self._one_step_by_graph(states[step]))

    def _one_step_by_graph(self, state: PackState) -> tuple[dict[str, Tensor], ...]:
        """What one step of the flat graph gives, what rounding may make of that, and its `rounding_errors`."""
        graph = self.graph()
        assert graph is not None, "a flat program"
        constants = (torch.minimum(self.constants[0], state.step + 1), *self.constants[1:])
        near = replace(state, params=nudged(state.params))
        with torch.no_grad():
            noise = self._noise(TRAINING, state.step[None], self.num_samples)
            eps = self._covering(noise, self._even)[0]
            expected = graph(*state.tensors(), eps, *constants)
            summed, local_slope = self.step.own(near.params, eps)
            rounded = self.rest(*near.tensors(), eps, nudged(summed), local_slope, *constants)
        theirs = step_changes(state, expected)
        return theirs, step_changes(near, rounded), rounding_errors(theirs, summed[..., 1:])

    def _noise_inputs(self) -> tuple[Tensor, ...]:
        """What a step's noise is made of besides its number: two words of keys, and which columns' samples are even."""
        return (*self._noise.keys(TRAINING), self._even)

    def _compile_for_cuda(self, graph: GraphModule, cache: Path | None) -> None:
        """One step and the noise of one call, each as a program."""
        steps = torch.zeros(self._replayed_steps, self.width, device=self.device, dtype=torch.int64)
        inputs = (steps, *self._noise.keys(TRAINING))

        def normals(*inputs: Tensor) -> tuple[Tensor, ...]:
            return (self._noise.out_of_place(inputs[0], self.num_samples, *inputs[1:]),)

        made = compile_graph(trace(normals, *inputs), inputs, cache)
        self._one, self._normals = compile_graph(graph, self._example(), cache), made

    @property
    def _replayed_steps(self) -> int:
        """Steps of one recording: as many as their noise lets."""
        return max(1, min(_MANY_STEPS, _CUDA_NOISE // max(1, self.noise_size)))

    def _replayed(self, decision: Decision) -> Decision:
        """The step recorded as a CUDA graph, whether compiled or not; one that cannot be is launched as it is."""
        step, at_once = self._one or self.graph(), self._replayed_steps
        assert step is not None, "a flat program"
        try:
            self._in_one_call = _Stepping(Replay(step, self._example(), PARTS, at_once), at_once)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            log.warning(
                "the step cannot be recorded as a CUDA graph, its kernels are launched one by one: %s", error
            )
            self._normals = None
            return decision
        return Decision(decision.compiled, f"{decision.reason}; {at_once} steps replayed as one CUDA graph")

    def _example(self) -> tuple[Tensor, ...]:
        """Inputs of one step at the start, for tracing."""
        state = self.start()
        with torch.no_grad():
            eps = self.noise(TRAINING, state.step[None])[0]
        # Clones, because tracing takes inputs that are one tensor, as the zeros of a first state are, for one input.
        return tuple(tensor.clone() for tensor in (*state.tensors(), eps, *self.constants))

    # -- a shard's half steps --------------------------------------------------------------------------------------

    @property
    def noise_size(self) -> int:
        """Numbers of noise in one step of all columns."""
        return self.width * self.num_samples * self._noise.size

    def noise(self, purpose: int, steps: Tensor) -> Tensor:
        """The noise `(K, C, S, E)` of steps `(K, C)`; in training the samples of a step cover the guide evenly.

        Not where a column's estimator takes them for independent of each other.
        """
        if purpose == TRAINING and self._normals is not None and len(steps) == self._replayed_steps:
            (noise,) = self._normals(steps, *self._noise.keys(TRAINING))
        else:
            noise = self._noise(purpose, steps, self.num_samples)
        return self._covering(noise, self._even) if purpose == TRAINING else noise

    def _covering(self, noise: Tensor, even: Tensor) -> Tensor:
        """The noise `(K, C, S, E)`, the samples of a step covering the guide evenly in columns that are `even`."""
        split = self.family.noise.size
        drawn = noise[..., :split].flatten(0, 1)
        evenly = self.family.stratify(drawn)
        if evenly is drawn:
            return noise
        covering = torch.cat((evenly.reshape(*noise.shape[:3], split), noise[..., split:]), -1)
        return torch.where(even, covering, noise)

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """The columns of a step's batch of rows; none where every step sees all rows."""
        return () if self.batches is None else self.batches(step)

    def own(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """`Step.own` of params, noise and batch."""
        return self.step.own(*inputs)

    def rest(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """`Step.rest` of state, noise, what the shards summed, the local slopes, and `constants`."""
        state, (eps, summed, local_slope, *constants) = PackState(*inputs[:PARTS]), inputs[PARTS:]
        columns = self._columns.with_flat(constants)
        return self.step.rest(state, eps, summed, local_slope, columns)

    def own_example(self) -> tuple[Tensor, ...]:
        """Inputs of `own`, for tracing."""
        steps = torch.zeros(1, self.width, device=self.device)
        return self.first_params(), self.noise(TRAINING, steps)[0], *self.batch(0)

    def rest_example(self) -> tuple[Tensor, ...]:
        """Inputs of `rest`, for tracing; clones, as in `_example`."""
        params, eps, *batch = self.own_example()
        own = torch.zeros(self.width, SHIFT_DRAWS, dtype=self.dtype, device=self.device)
        with torch.no_grad():
            halves = self.step.own(params, eps, *batch)
        return tuple(t.clone() for t in (*self.start(own).tensors(), eps, *halves, *self.constants))

    def _step_once(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One step as a pure function of tensors: state, noise and column constants in, state and records out."""
        state, (eps, *constants) = PackState(*inputs[:PARTS]), inputs[PARTS:]
        summed, local_slope = self.step.own(state.params, eps)
        return self.step.rest(state, eps, summed, local_slope, self._columns.with_flat(constants))

    def shift_noise(self) -> Tensor:
        """The noise `(C, 64, E)` of the first estimate of log Z."""
        zeros = torch.zeros(1, self.width, device=self.device)
        return self._noise(SHIFT, zeros, SHIFT_DRAWS)[0]

    def _first_shift(self, params: Tensor, own: Tensor | None) -> Tensor:
        """Where the running estimate of log Z starts, `(C,)`: 0 for columns that need none."""
        shifted = torch.tensor([column.needs_shift for column in self.columns], device=self.device)
        if not bool(shifted.any()):
            return torch.zeros(self.width, dtype=self.dtype, device=self.device)
        eps = self.shift_noise()
        with torch.no_grad():
            own = self.step.own_value(params, eps) if own is None else own
            first = log_mean_exp(own - self.step.log_q(params, eps))
        return torch.where(shifted & first.isfinite(), first, torch.zeros_like(first))
