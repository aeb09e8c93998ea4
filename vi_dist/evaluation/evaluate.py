"""The common evaluation: every configuration on the same noise, in float64, whatever it was trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vi_dist.evaluation.pareto import effective_sample_size, pareto_khat
from vi_dist.vi.guides.family import Family
from vi_dist.vi.noise import EVALUATION, NormalSource

# Draws made at once, so that memory stays bounded: rows times what a guide needs for one of them.
ROWS = 1024
# The evaluation's noise is kept for the next guide up to so many numbers.
KEPT_NUMBERS = 1 << 22


@dataclass(frozen=True)
class Evaluation:
    """One configuration on the common scale; NaN where it is not defined (a guide without density).

    Attributes:
        elbo: mean log weight, with its standard error `elbo_se`.
        iw_elbo: importance-weighted bound, log mean weight, of all `samples`.
        khat: Pareto k-hat of the weights; -inf when they are constant (the guide is exact).
        samples: draws of the evaluation.
        ess: effective sample size of their smoothed weights, at most `samples`.
    """

    elbo: float
    elbo_se: float
    iw_elbo: float
    khat: float
    samples: int
    ess: float = field(default=math.nan, compare=False)  # NaN, where it is not known, equals nothing


class Evaluator:
    """Evaluates guides of one family against one model.

    Args:
        joint: the model's log joint over rows in float64, with the Jacobian (`JointProgram.value` or `JointValues`).
        family: the guide family.
        samples: number of draws per guide; the same draws for every guide.
    """

    def __init__(self, joint: Callable[[Tensor], Tensor], family: Family, samples: int = 4096) -> None:
        self.joint, self.family, self.samples = joint, family, samples
        self._source = NormalSource(family.noise, [0], torch.float64)
        self._kept: Tensor | None = None

    def log_weights(
        self, leaves: Mapping[str, Tensor], model_params: Tensor, samples: int | None = None
    ) -> Tensor:
        """Log weights `(C, samples)`, float64, of guides given by leaves `(C, *shape)` and params `(C, p)`.

        `samples`: of the first so many draws only.
        """
        samples = self.samples if samples is None else samples
        leaves = {name: leaf.to(torch.float64) for name, leaf in leaves.items()}
        params = model_params.to(torch.float64)
        columns = params.shape[0]
        parts = []
        at_once = max(1, ROWS // columns)
        with torch.no_grad():
            for first in range(0, samples, at_once):
                count = min(at_once, samples - first)
                noise = self._noise(first, count).expand(columns, -1, -1)
                z = self.family.draw(leaves, noise)
                rows = torch.cat((z, params[:, None].expand(-1, count, -1)), -1)
                own = self.joint(rows.reshape(-1, rows.shape[-1])).reshape(columns, count)
                # Inverting a badly conditioned guide for its own draws would invent an ELBO.
                parts.append(own - self.family.checked_log_q(leaves, noise, z))
        return torch.cat(parts, 1)

    def uncertain_draws(self, leaves: Mapping[str, Tensor]) -> list[int]:
        """For each of C guides the number of its draws whose log q is not known to within a nat."""
        leaves = {name: leaf.to(torch.float64) for name, leaf in leaves.items()}
        columns = next(iter(leaves.values())).shape[0]
        counts = torch.zeros(columns, dtype=torch.int64)
        at_once = max(1, ROWS // columns)
        with torch.no_grad():
            for first in range(0, self.samples, at_once):
                noise = self._noise(first, min(at_once, self.samples - first)).expand(columns, -1, -1)
                log_q = self.family.checked_log_q(leaves, noise, self.family.draw(leaves, noise))
                counts += log_q.isnan().sum(1)
        return counts.tolist()

    def draws(self, leaves: Mapping[str, Tensor], samples: int) -> Tensor:
        """Coordinates `(C, samples, d)`, float64, of the first draws, no more than are made at once."""
        leaves = {name: leaf.to(torch.float64) for name, leaf in leaves.items()}
        columns = next(iter(leaves.values())).shape[0]
        with torch.no_grad():
            return self.family.draw(leaves, self._noise(0, samples).expand(columns, -1, -1))

    def _noise(self, first: int, count: int) -> Tensor:
        """Normals `(1, count, E)` of the samples from `first` on; kept for the next guide where they are not many."""
        step = torch.zeros(1, 1)
        if self.samples * self._source.size > KEPT_NUMBERS:
            return self._source(EVALUATION, step, count, first)[0]
        if self._kept is None:
            self._kept = self._source(EVALUATION, step, self.samples)[0]
        return self._kept[:, first : first + count]

    def __call__(self, leaves: Mapping[str, Tensor], model_params: Tensor) -> list[Evaluation]:
        """Evaluate C guides."""
        if not self.family.has_density:
            return [Evaluation(math.nan, math.nan, math.nan, math.nan, self.samples)] * model_params.shape[0]
        return [summarise(row) for row in self.log_weights(leaves, model_params)]


def summarise(log_weights: Tensor) -> Evaluation:
    """The evaluation of one guide from its log weights `(N,)`."""
    n = log_weights.shape[0]
    iw_elbo = float(torch.logsumexp(log_weights, 0)) - math.log(n)
    elbo_se = float(log_weights.std()) / math.sqrt(n)
    weights = log_weights.numpy()
    khat, ess = pareto_khat(weights), effective_sample_size(weights)
    return Evaluation(float(log_weights.mean()), elbo_se, iw_elbo, khat, n, ess)
