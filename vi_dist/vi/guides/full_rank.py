"""Full-rank Gaussian: one multivariate normal over all unconstrained coordinates."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal
from torch.nn.functional import softplus

from vi_dist.vi.guides.family import INITIAL_SCALE, Family, Leaves, inverse_softplus
from vi_dist.vi.guides.mean_field import LOG_SQRT_2PI


class FullRank(Family):
    """q(z) = Normal(z; loc, L L^T) with L = diag(softplus(raw_scale)) (I + N), N strictly lower triangular.

    `lower` holds N, d (d - 1) / 2 entries, row by row. Rows scaled by their own standard deviation keep L^-1 tame while
    the entries of N still wander: with L's entries free, a scale of 0.1 and steps of 0.04 make it explode.
    """

    def initial(self, loc: Tensor, scale: float = INITIAL_SCALE) -> dict[str, Tensor]:
        d = loc.shape[0]
        raw = torch.full_like(loc, inverse_softplus(scale))
        return {"loc": loc.clone(), "raw_scale": raw, "lower": loc.new_zeros(d * (d - 1) // 2)}

    def draw(self, leaves: Leaves, noise: Tensor) -> Tensor:
        mixed = noise @ _unit_lower(leaves).transpose(-1, -2)
        return leaves["loc"][:, None] + softplus(leaves["raw_scale"])[:, None] * mixed

    def log_prob(self, leaves: Leaves, z: Tensor) -> Tensor:
        scale = softplus(leaves["raw_scale"])
        scaled = (z - leaves["loc"][:, None]) / scale[:, None]
        standard = torch.linalg.solve_triangular(
            _unit_lower(leaves), scaled.transpose(-1, -2), upper=False, unitriangular=True
        )
        constant = scale.log().sum(-1) + LOG_SQRT_2PI * z.shape[-1]
        return -0.5 * (standard * standard).sum(-2) - constant[:, None]

    def distribution(self, leaves: Leaves) -> Distribution:
        scale_tril = softplus(leaves["raw_scale"])[:, None] * _unit_lower(leaves)
        return MultivariateNormal(leaves["loc"], scale_tril=scale_tril)


def _unit_lower(leaves: Leaves) -> Tensor:
    """I + N, `(*batch, d, d)`: a gather from [N, 1, 0], which batches, traces and differentiates plainly."""
    lower, d = leaves["lower"], leaves["loc"].shape[-1]
    one = torch.ones_like(leaves["loc"][..., :1])
    entries = torch.cat((lower, one, torch.zeros_like(one)), -1)
    return entries.index_select(-1, _places(d).to(lower.device)).reshape(*lower.shape[:-1], d, d)


def _places(d: int) -> Tensor:
    """For every entry of I + N, row by row, its place in [N, 1, 0]."""
    row, column = torch.arange(d)[:, None], torch.arange(d)
    below = d * (d - 1) // 2
    upper = torch.where(row == column, below, below + 1)
    return torch.where(column < row, row * (row - 1) // 2 + column, upper).reshape(-1)
