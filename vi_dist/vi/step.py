"""One step of a pack as pure functions of tensors, cut where shards of the data add up.

`own` is part A: what one shard's rows say, of which shards sum `(C, S, 1 + D)` numbers. `rest` is everything else,
parts B and C and the optimizer's update, and the same on every shard but for the latents of its own rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from vi_dist.vi.averaging import average_weight
from vi_dist.vi.columns import ColumnTensors, pack_coefficients
from vi_dist.vi.estimators import log_mean_exp
from vi_dist.vi.guide_gradient import guide_gradient, stopped_gradient
from vi_dist.vi.guides.family import Family
from vi_dist.vi.initialisation import Start
from vi_dist.vi.layout import Layout
from vi_dist.vi.optimizers import Optimizer, clip
from vi_dist.vi.schedules import SCHEDULES
from vi_dist.vi.state import PackState
from vi_dist.vi.trace import JointProgram

# A column is given up after so many steps in a row without a finite gradient.
MAX_STREAK = 20
# The weight of each step in the running estimate of log Z.
SHIFT_RATE = 0.1


class Step:
    """The step of a pack.

    Params `(C, P)` are the guide's leaves, then the model's own params, then the leaves of the local latents' guide;
    noise `(C, S, E)` is the guide's, then the local latents'.

    Args:
        joint: the model's log joint over rows of coordinates, params and local coordinates, `(B, D + n)`.
        layout: where these stand.
        family: the guide.
        local: the guide of the latents that belong to the shard's rows, or None.
        optimizer: the update rule.
    """

    def __init__(
        self, joint: JointProgram, layout: Layout, family: Family, local: Family | None, optimizer: Optimizer
    ) -> None:
        self.joint, self.layout, self.family, self.local, self.optimizer = (
            joint,
            layout,
            family,
            local,
            optimizer,
        )
        self._shapes = {name: leaf.shape for name, leaf in family.initial(layout.loc).items()}
        self._local_shapes = (
            {} if local is None else {n: leaf.shape for n, leaf in local.initial(layout.local_loc).items()}
        )
        self.guide_size = sum(shape.numel() for shape in self._shapes.values())
        self.shared_size = self.guide_size + layout.eta.shape[0]

    def initial(self, start: Start) -> Tensor:
        """Params before the first step, `(P,)`."""
        leaves = self.family.initial(start.loc.to(self.layout.loc), start.scale)
        parts = [*leaves.values(), self.layout.eta]
        if self.local is not None:
            parts += self.local.initial(self.layout.local_loc).values()
        return torch.cat([part.reshape(-1).to(self.layout.loc) for part in parts])

    def leaves(self, params: Tensor) -> dict[str, Tensor]:
        """The guide's leaves, named, `(C, *shape)`."""
        return _leaves(params, self._shapes)

    def model_params(self, params: Tensor) -> Tensor:
        """The model's own params, flat, `(C, p)`."""
        return params[:, self.guide_size : self.shared_size]

    def local_leaves(self, params: Tensor) -> dict[str, Tensor]:
        """The leaves of the local latents' guide."""
        return _leaves(params[:, self.shared_size :], self._local_shapes)

    def own(self, params: Tensor, eps: Tensor, *batch: Tensor) -> tuple[Tensor, Tensor]:
        """Part A: this shard's log weights and their slopes in all that shards share, `(C, S, 1 + D)`; and the slopes
        in its local coordinates, with their guide's params stopped, `(C, S, n)`. `batch`: the columns of a batch, if
        the joint is one of batches.

        A log weight is NaN where a local slope is not finite: other shards hear of that by nothing else, and the step
        is to be skipped by all of them.
        """
        rows, local_log_q, local_slope = self.rows(params, eps)
        own, gradient = self.joint.value_and_gradient(rows.reshape(-1, rows.shape[-1]), *batch)
        own, gradient = own.reshape(rows.shape[:2]) - local_log_q, gradient.reshape(rows.shape)
        shared = self.layout.size + self.layout.eta.shape[0]
        of_local = gradient[..., shared:] - local_slope
        if self.local is not None:
            own = torch.where(of_local.isfinite().all(-1), own, torch.full_like(own, math.nan))
        summed = torch.cat((own[..., None], gradient[..., :shared]), -1)
        return summed, of_local

    def own_value(self, params: Tensor, eps: Tensor, *batch: Tensor) -> Tensor:
        """This shard's part of log p(x, z) - log q of its local latents, `(C, S)`."""
        rows, local_log_q, _ = self.rows(params, eps)
        own = self.joint.value(rows.reshape(-1, rows.shape[-1]), *batch)
        return own.reshape(rows.shape[:2]) - local_log_q

    def log_q(self, params: Tensor, eps: Tensor) -> Tensor:
        """log q of the latents that shards share, at their draws, `(C, S)`."""
        leaves, eps = self.leaves(params), eps[..., : self.family.noise.size]
        return self.family.density_of_draw(leaves, eps, self.family.draw(leaves, eps))[0]

    def checked_log_q(self, params: Tensor, eps: Tensor) -> Tensor:
        """`log_q` for evaluation: NaN where it is not known to within a nat."""
        leaves, eps = self.leaves(params), eps[..., : self.family.noise.size]
        return self.family.checked_log_q(leaves, eps, self.family.draw(leaves, eps))

    def rest(
        self,
        state: PackState,
        eps: Tensor,
        summed: Tensor,
        local_slope: Tensor,
        columns: ColumnTensors,
    ) -> tuple[Tensor, ...]:
        """Parts B and C and the update: state and records `(C,)` after the step, from what the shards summed."""
        known, d = columns.named, self.layout.size
        leaves, global_eps = self.leaves(state.params), eps[..., : self.family.noise.size]
        z = self.family.draw(leaves, global_eps)
        log_q, slope = self.family.density_of_draw(leaves, global_eps, z)
        l = summed[..., 0] - log_q
        result, clamped = pack_coefficients(l, state.shift, known["limit"], columns.groups, columns.tensors)
        of_joint = summed[..., 1 : 1 + d]
        gradient = guide_gradient(self.family, leaves, global_eps, of_joint, slope, result, columns)
        if self.layout.eta.shape[0]:
            of_model = (result.model[..., None] * summed[..., 1 + d :]).sum(1)
            gradient = torch.cat((gradient, of_model), -1)
        # The norm is that of the shared params: with local ones in it, shards would have to add up a second time.
        gradient, norm = clip(gradient, known["clip"])
        if self.local is not None:
            local_eps = eps[..., self.family.noise.size :]
            own = self.local_leaves(state.params)
            scored = any(one.example.estimator.uses_score for one in columns.groups)
            of_local = stopped_gradient(self.local, own, local_eps, local_slope, result, scored)
            gradient = torch.cat((gradient, of_local.nan_to_num(0.0, 0.0, 0.0)), -1)
        return self._update(state, gradient, norm, result.loss, l, clamped, known)

    def rows(self, params: Tensor, eps: Tensor) -> tuple[Tensor, Tensor | float, Tensor | float]:
        """The joint's rows `(C, S, D + n)`; log q of the local latents and its slope in their coordinates."""
        split = self.family.noise.size
        z = self.family.draw(self.leaves(params), eps[..., :split])
        parts: list[Tensor] = [z]
        if self.layout.eta.shape[0]:
            parts.append(self.model_params(params)[:, None].expand(-1, z.shape[1], -1))
        log_q: Tensor | float = 0.0
        slope: Tensor | float = 0.0
        if self.local is not None:
            own, noise = self.local_leaves(params), eps[..., split:]
            local_z = self.local.draw(own, noise)
            log_q, slope = self.local.density_of_draw(own, noise, local_z)
            parts.append(local_z)
        return torch.cat(parts, -1) if len(parts) > 1 else z, log_q, slope

    def _paced(self, rate: Tensor) -> Tensor:
        """Learning rates of the params, `(C, P)` or the same for all, `(C, 1)`, from those of the columns, `(C, 1)`."""
        pace = self.family.pace
        if not pace:
            return rate
        factors = [
            rate.new_full((shape.numel(),), pace.get(name, 1.0)) for name, shape in self._shapes.items()
        ]
        others = sum(shape.numel() for shape in self._local_shapes.values()) + self.layout.eta.shape[0]
        return rate * torch.cat((*factors, rate.new_ones(others)))

    def _update(
        self,
        state: PackState,
        gradient: Tensor,
        norm: Tensor,
        loss: Tensor,
        l: Tensor,
        clamped: Tensor,
        known: Mapping[str, Tensor],
    ) -> tuple[Tensor, ...]:
        active = state.alive & (state.step < known["steps"])
        finite = norm.isfinite() & loss.isfinite()
        taken = active & finite
        # Not-finite rows are replaced before the update: where() alone would keep them, at the price of 0 * inf.
        gradient = torch.where(taken[:, None], gradient, torch.zeros_like(gradient))
        step = state.step.to(gradient.dtype)
        rate = self._paced(known["rate"] * _schedule_factor(step[:, None], known))
        count = (step - state.skipped.to(gradient.dtype) + 1)[:, None]
        params, buffers = self.optimizer.update(
            state.params, gradient, tuple(state.buffers), rate, count, known
        )
        rows = taken[:, None]
        streak = torch.where(finite, torch.zeros_like(state.streak), state.streak + 1)
        seen = log_mean_exp(l)
        # Averaged as numbers, not as logs: e^shift is then an unbiased estimate of Z, and rises with it at once.
        moved = torch.logaddexp(state.shift + math.log1p(-SHIFT_RATE), seen + math.log(SHIFT_RATE))
        nan = torch.full_like(loss, math.nan)
        params = torch.where(rows, params, state.params)
        averaged = torch.lerp(state.averaged, params, average_weight(step[:, None] + 1, known["averaging"]))
        averaged = torch.where(active[:, None], averaged, state.averaged)
        half = (step[:, None] + 1 == known["half"]) & active[:, None]
        return (
            params,
            torch.where(rows, torch.stack(buffers), state.buffers),
            torch.where(taken & known["shifted"] & seen.isfinite(), moved, state.shift),
            state.step + active,
            state.skipped + (active & ~finite),
            torch.where(active, streak, state.streak),
            state.clamped + torch.where(active, clamped, torch.zeros_like(clamped)),
            state.alive & ~(active & (streak >= MAX_STREAK)),
            averaged,
            torch.where(half, averaged, state.halfway),
            torch.where(active, loss, nan),
            torch.where(active, l.mean(-1), nan),
            torch.where(active, norm, nan),
        )


def _leaves(params: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    leaves, start = {}, 0
    for name, shape in shapes.items():
        leaf = params[:, start : start + shape.numel()]
        leaves[name] = leaf.reshape(params.shape[0], *shape)  # not -1: a leaf may be empty
        start += shape.numel()
    return leaves


def _schedule_factor(step: Tensor, known: Mapping[str, Tensor]) -> Tensor:
    factor = torch.ones_like(step)
    for schedule, entry in SCHEDULES.items():
        if schedule == "constant" or schedule not in known:
            continue
        arguments = {name: known[f"{schedule}.{name}"] for name in entry.arguments}
        value = entry.make()(step, known["total"], arguments)
        factor = torch.where(known[schedule], value, factor)
    return factor
