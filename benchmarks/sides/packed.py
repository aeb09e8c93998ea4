"""vi_dist: one `PackProgram`, eager or compiled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from benchmarks.models.case import Array, Case
from benchmarks.sides.programs import built, family, program, traced
from benchmarks.sides.side import Gaussian, Job
from vi_dist.evaluation.evaluate import Evaluator
from vi_dist.model.prior_median import prior_median
from vi_dist.model.world import World
from vi_dist.vi.context import model_context
from vi_dist.vi.guides.family import inverse_softplus
from vi_dist.vi.pack import PackProgram
from vi_dist.vi.state import PackState


def starting_values(case: Case) -> dict[str, Array]:
    """Where guides start, by latent, in the model's own space."""
    model, _ = built(case, torch.float32)
    world = World(model.observations, prior_median)
    with model_context(torch.float32), world:
        for variable in (*model.queries, *model.observations):
            world.call(variable)
        medians = {str(node): world.get_variable(node).value.numpy() for node in world.latent_nodes}
    return {**medians, **{name: value.astype(np.float32) for name, value in case.start().items()}}


class Packed:
    """The pack of a job, stepped by the eager graph or by the compiled program.

    On a GPU either is replayed as a CUDA graph, unless it is `launched`: eager, kernel by kernel.
    """

    def __init__(self, job: Job, compiled: bool, estimator: str = "reparam", launched: bool = False) -> None:
        self.name = "vi_dist compiled" if compiled else "vi_dist eager"
        self._job, self._mode, self._estimator = job, "always" if compiled else "never", estimator
        self._launched = launched
        self._program = self._made(job)
        self._state: PackState = self._program.start()

    def _made(self, job: Job) -> PackProgram:
        made = program(job, self._estimator)
        if self._launched:
            return made
        decision = made.compile(self._mode)
        if decision.compiled != (self._mode == "always"):
            raise SystemExit(f"vi_dist did not compile {job.case.name}: {decision.reason}")
        return made

    def advance(self, steps: int) -> Array:
        self._state, trajectory = self._program.advance(self._state, steps)
        losses: Array = trajectory.loss.cpu().numpy()
        return losses

    def set_rate(self, factor: float) -> None:
        self._program = self._made(replace(self._job, rate=factor))

    def elbo(self, draws: int) -> float:
        """The first column's ELBO, in float64, on the draws common to all sides."""
        leaves = {k: v[:1].cpu() for k, v in self._program.leaves(self._state.params).items()}
        return elbo(self._job.case, self._job.guide, leaves, draws)


def elbo(case: Case, guide: str, leaves: dict[str, Tensor], draws: int) -> float:
    """The ELBO of one guide, leaves `(1, *shape)`."""
    evaluator = Evaluator(traced(case, torch.float64).value, family(case, guide), draws)
    return float(evaluator.log_weights(leaves, torch.zeros(1, 0)).mean())


def elbo_of_peer(case: Case, guide: str, learned: Gaussian, draws: int) -> float:
    """The ELBO of a peer's guide, by vi_dist's log joint on the same draws as vi_dist's own."""
    return elbo(case, guide, leaves_of_peer(case, guide, learned), draws)


def leaves_of_peer(case: Case, guide: str, learned: Gaussian) -> dict[str, Tensor]:
    """A peer's guide as leaves `(1, *shape)` of vi_dist's family, latents in vi_dist's order."""
    _, layout = built(case, torch.float64)
    starts, place = {}, 0
    for name, size in learned.sites:
        starts[name], place = place, place + size
    order = np.concatenate([np.arange(starts[s.name], starts[s.name] + s.size) for s in layout.latents])
    loc = torch.as_tensor(learned.loc.astype(np.float64)[order])
    tril = torch.as_tensor(learned.tril.astype(np.float64))
    lower = torch.linalg.cholesky((tril @ tril.T)[order][:, order])
    scale = lower.diagonal()
    leaves = {"loc": loc[None], "raw_scale": _raw(scale)[None]}
    if guide == "full_rank":
        unit = lower / scale[:, None]
        leaves["lower"] = unit[tuple(torch.tril_indices(len(loc), len(loc), -1))][None]
    return leaves


def _raw(scale: Tensor) -> Tensor:
    return torch.tensor([inverse_softplus(float(s)) for s in scale], dtype=scale.dtype)
