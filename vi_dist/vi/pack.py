"""A pack: configurations that share one program and advance in lockstep along a leading axis."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor
from torch.fx import GraphModule

from vi_dist.vi.columns import Column, group, group_tensors, pack_coefficients, padded
from vi_dist.vi.compile import Decision, compile_steps, decide
from vi_dist.vi.estimators import log_mean_exp
from vi_dist.vi.graph import trace
from vi_dist.vi.guides.family import Family
from vi_dist.vi.layout import Layout
from vi_dist.vi.noise import SHIFT, TRAINING, NormalSource
from vi_dist.vi.optimizers import Optimizer, clip
from vi_dist.vi.schedules import SCHEDULES
from vi_dist.vi.state import PackState, Trajectory
from vi_dist.vi.trace import JointProgram

log = logging.getLogger(__name__)

# A column is given up after so many steps in a row without a finite gradient.
MAX_STREAK = 20
# Draws behind the first estimate of log Z, and the weight of each later step in it.
SHIFT_DRAWS, SHIFT_RATE = 64, 0.1
# Noise is made for several steps at once, up to so many numbers.
NOISE_BLOCK = 1 << 20

# Steps that a compiled program takes in one call: calling it costs as much as stepping a dozen columns.
_NARROW, _MANY_STEPS, _SOME_STEPS = 8, 64, 16

StepsFunction = Callable[..., tuple[Tensor, ...]]


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
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        self.joint, self.layout, self.family, self.optimizer = joint, layout, family, optimizer
        self.num_samples, self.dtype, self.device = num_samples, dtype, torch.device(device)
        self.width = width or len(columns)
        self._initial = {k: v.to(self.device, dtype) for k, v in family.initial(layout.loc).items()}
        self._eta = layout.eta.to(self.device, dtype)
        kinds = (*kinds, *columns)
        self._groups = group(kinds)
        self._schedules = sorted({c.schedule[0] for c in kinds})
        self._limit = 40.0 if dtype == torch.float32 else 300.0
        self._set_columns(padded(columns, width or len(columns)))
        self._graph: GraphModule | None = None
        self._steps: StepsFunction | None = None
        self._steps_at_once = 1

    # -- state ---------------------------------------------------------------------------------------------------

    def start(self) -> PackState:
        """The state before the first step."""
        c, on = self.width, self.device
        flat = torch.cat([v.reshape(-1) for v in self._initial.values()] + [self._eta])
        params = flat.expand(c, -1).clone()
        zeros = torch.zeros(c, dtype=self.dtype, device=on)
        count = torch.zeros(c, dtype=torch.int64, device=on)
        buffers = torch.zeros(self.optimizer.buffers, *params.shape, dtype=self.dtype, device=on)
        shift = zeros
        if any(column.needs_shift for column in self.columns):
            shift = self._first_shift(params)
        alive = torch.ones(c, dtype=torch.bool, device=on)
        return PackState(params, buffers, shift, count, count, count, zeros, alive)

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
        self._noise = NormalSource(self.family.noise, [c.seed for c in columns], self.dtype, self.device)
        self._constants = self._column_tensors()

    def leaves(self, params: Tensor) -> dict[str, Tensor]:
        """The guide's leaves, named, `(C, *shape)`, of flat params `(C, P)`."""
        leaves, start = {}, 0
        for name, example in self._initial.items():
            leaf = params[:, start : start + example.numel()]
            leaves[name] = leaf.reshape(params.shape[0], *example.shape)  # not -1: a leaf may be empty
            start += example.numel()
        return leaves

    def model_params(self, params: Tensor) -> Tensor:
        """The model's own params, flat, `(C, p)`."""
        return params[:, params.shape[1] - self._eta.shape[0] :]

    # -- stepping ------------------------------------------------------------------------------------------------

    def advance(self, state: PackState, steps: int) -> tuple[PackState, Trajectory]:
        """Take up to `steps` steps with every column that is alive and has steps left."""
        records: list[tuple[Tensor, ...]] = []
        tensors: Sequence[Tensor] = state.tensors()
        take, at_once = self._steps or self._one_step, self._steps_at_once
        # A compiled program takes its number of steps: those beyond the last one wanted change nothing.
        last = torch.minimum(self._constants[0], state.step + steps)
        numbers = self.width * self.num_samples * max(1, self._noise.size)
        block = at_once * max(1, NOISE_BLOCK // (numbers * at_once))
        with torch.no_grad():
            for first in range(0, steps, block):
                count = min(block, -(-(steps - first) // at_once) * at_once)
                ahead = torch.arange(count, device=self.device)[:, None]
                noise = self._noise(TRAINING, tensors[3] + ahead, self.num_samples)
                for eps in noise.split(at_once):
                    *tensors, loss, elbo, norm = take(*tensors, eps, last, *self._constants[1:])
                    records.append((loss, elbo, norm))
        nothing = torch.zeros(0, self.width, dtype=self.dtype, device=self.device)
        loss, elbo, norm = map(torch.cat, zip(*records, strict=True)) if records else (nothing,) * 3
        return PackState(*tensors), Trajectory(loss[:steps], elbo[:steps], norm[:steps])

    def _one_step(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One step of the flat graph or, in a loop, of the model itself; noise and records have an axis of one step."""
        step = self.graph() or self._step_once
        *tensors, loss, elbo, norm = step(*inputs[:8], inputs[8][0], *inputs[9:])
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
        decision = decide(mode, graph, steps)
        if decision.compiled:
            try:
                at_once = _MANY_STEPS if self.width <= _NARROW else _SOME_STEPS
                self._steps = compile_steps(graph, self._example(), len(fields(PackState)), at_once, cache)
                self._steps_at_once = at_once
            except Exception as error:  # a compiler can fail in as many ways as there are machines
                log.warning("compilation failed, the flat graph runs eagerly: %s", error)
                return Decision(
                    False, f"compilation failed ({type(error).__name__}): the flat graph runs eagerly"
                )
        return decision

    def _example(self) -> tuple[Tensor, ...]:
        """Inputs of one step at the start, for tracing."""
        state = self.start()
        with torch.no_grad():
            eps = self._noise(TRAINING, state.step[None], self.num_samples)[0]
        # Clones, because tracing takes inputs that are one tensor, as the zeros of a first state are, for one input.
        return tuple(tensor.clone() for tensor in (*state.tensors(), eps, *self._constants))

    def _step_once(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One step as a pure function of tensors: state, noise and column constants in, state and records out."""
        state, (eps, *constants) = PackState(*inputs[:8]), inputs[8:]
        known = dict(zip(self._names, constants[: len(self._names)], strict=True))
        l, path_slope, own_gradient = self._log_weights(state.params, eps)
        result, clamped = pack_coefficients(
            l, state.shift, self._limit, self._groups, self._group_tensors(constants[len(self._names) :])
        )
        gradient = self._gradient(state.params, eps, result.path, result.score, path_slope)
        if self._eta.numel():
            of_model = (result.model[..., None] * own_gradient[..., self.layout.size :]).sum(1)
            gradient = torch.cat((gradient, of_model), -1)
        gradient, norm = clip(gradient, known["clip"])
        return self._update(state, gradient, norm, result.loss, l, clamped, known)

    def _log_weights(self, params: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """l `(C, S)`; its slope in z with the params stopped `(C, S, d)`; the joint's whole gradient `(C, S, D)`."""
        leaves = self.leaves(params)
        z = self.family.draw(leaves, eps)
        log_q, slope = self.family.density_of_draw(leaves, eps, z)
        rows = z
        if self._eta.numel():
            rows = torch.cat((z, self.model_params(params)[:, None].expand(-1, z.shape[1], -1)), -1)
        own, gradient = self.joint.value_and_gradient(rows.reshape(-1, rows.shape[-1]))
        gradient = gradient.reshape(rows.shape)
        return own.reshape(z.shape[:2]) - log_q, gradient[..., : self.layout.size] - slope, gradient

    def _gradient(self, params: Tensor, eps: Tensor, path: Tensor, score: Tensor, slope: Tensor) -> Tensor:
        """Part C: the guide's gradient `(C, P)` from the coefficients."""
        with torch.enable_grad():
            leaves = {name: leaf.detach().requires_grad_() for name, leaf in self.leaves(params).items()}
            z = self.family.draw(leaves, eps)
            # A sample that carries no path weight must not spoil the sum, whatever its slope is: 0 * NaN would.
            slope = torch.where((path == 0)[..., None], torch.zeros_like(slope), slope)
            surrogate = (path[..., None] * slope * z).sum()
            if self.family.has_density and any(one.example.estimator.uses_score for one in self._groups):
                surrogate = surrogate + (score * self.family.log_prob(leaves, z.detach())).sum()
            parts = torch.autograd.grad(surrogate, list(leaves.values()))
        return torch.cat([part.reshape(part.shape[0], -1) for part in parts], -1)

    def _update(
        self,
        state: PackState,
        gradient: Tensor,
        norm: Tensor,
        loss: Tensor,
        l: Tensor,
        clamped: Tensor,
        known: dict[str, Tensor],
    ) -> tuple[Tensor, ...]:
        active = state.alive & (state.step < known["steps"])
        finite = norm.isfinite() & loss.isfinite()
        taken = active & finite
        # Not-finite rows are replaced before the update: where() alone would keep them, at the price of 0 * inf.
        gradient = torch.where(taken[:, None], gradient, torch.zeros_like(gradient))
        step = state.step.to(self.dtype)
        rate = known["rate"] * self._schedule_factor(step[:, None], known)
        count = (step - state.skipped.to(self.dtype) + 1)[:, None]
        params, buffers = self.optimizer.update(
            state.params, gradient, tuple(state.buffers), rate, count, known
        )
        rows = taken[:, None]
        streak = torch.where(finite, torch.zeros_like(state.streak), state.streak + 1)
        seen = log_mean_exp(l)
        # Averaged as numbers, not as logs: e^shift is then an unbiased estimate of Z, and rises with it at once.
        moved = torch.logaddexp(state.shift + math.log1p(-SHIFT_RATE), seen + math.log(SHIFT_RATE))
        nan = torch.full_like(loss, math.nan)
        return (
            torch.where(rows, params, state.params),
            torch.where(rows, torch.stack(buffers), state.buffers),
            torch.where(taken & known["shifted"] & seen.isfinite(), moved, state.shift),
            state.step + active,
            state.skipped + (active & ~finite),
            torch.where(active, streak, state.streak),
            state.clamped + torch.where(active, clamped, torch.zeros_like(clamped)),
            state.alive & ~(active & (streak >= MAX_STREAK)),
            torch.where(active, loss, nan),
            torch.where(active, l.mean(-1), nan),
            torch.where(active, norm, nan),
        )

    # -- columns of numbers ----------------------------------------------------------------------------------------

    def _column_tensors(self) -> list[Tensor]:
        """Everything that differs between columns, as tensors; `_names` names the first of them."""

        def numbers(values: Sequence[float]) -> Tensor:
            return torch.tensor(list(values), dtype=self.dtype, device=self.device)[:, None]

        named = {
            "steps": torch.tensor([c.steps for c in self.columns], device=self.device),
            "shifted": torch.tensor([c.needs_shift for c in self.columns], device=self.device),
            "rate": numbers([c.learning_rate for c in self.columns]),
            "total": numbers([max(c.steps, 1) for c in self.columns]),
            "clip": numbers([c.clip for c in self.columns]),
        }
        for name in self.optimizer.coefficients:
            named[name] = numbers([c.coefficients[name] for c in self.columns])
        for schedule in self._schedules:
            named[schedule] = torch.tensor(
                [[c.schedule[0] == schedule] for c in self.columns], device=self.device
            )
            for name, argument in SCHEDULES[schedule].arguments.items():
                named[f"{schedule}.{name}"] = numbers(
                    [c.schedule[1].get(name, argument.default) for c in self.columns]
                )
        self._names = tuple(named)
        example = named["rate"]
        tensors = group_tensors(self.columns, self._groups, example)
        self._lengths = [len(part) for part in tensors]
        return [*named.values(), *(tensor for part in tensors for tensor in part)]

    def _group_tensors(self, flat: Sequence[Tensor]) -> list[list[Tensor]]:
        parts, start = [], 0
        for length in self._lengths:
            parts.append(list(flat[start : start + length]))
            start += length
        return parts

    def _schedule_factor(self, step: Tensor, known: dict[str, Tensor]) -> Tensor:
        factor = torch.ones_like(step)
        for schedule in self._schedules:
            if schedule == "constant":
                continue
            arguments = {name: known[f"{schedule}.{name}"] for name in SCHEDULES[schedule].arguments}
            value = SCHEDULES[schedule].make()(step, known["total"], arguments)
            factor = torch.where(known[schedule], value, factor)
        return factor

    def _first_shift(self, params: Tensor) -> Tensor:
        leaves = self.leaves(params)
        noise = self._noise(SHIFT, torch.zeros(1, self.width, device=self.device), SHIFT_DRAWS)[0]
        with torch.no_grad():
            z = self.family.draw(leaves, noise)
            eta = self.model_params(params)[:, None].expand(-1, SHIFT_DRAWS, -1)
            rows = torch.cat((z, eta), -1)
            own = self.joint.value(rows.reshape(-1, rows.shape[-1])).reshape(z.shape[:2])
            first = log_mean_exp(own - self.family.log_prob(leaves, z))
        shifted = torch.tensor([column.needs_shift for column in self.columns], device=self.device)
        return torch.where(shifted & first.isfinite(), first, torch.zeros_like(first))
