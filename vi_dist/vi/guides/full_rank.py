"""Full-rank Gaussian: one multivariate normal over all unconstrained coordinates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal
from torch.nn.functional import softplus

from vi_dist.vi.guides.family import INITIAL_SCALE, Family, Leaves, Scale, raw_scales
from vi_dist.vi.guides.mean_field import LOG_SQRT_2PI, gaussian_of_draw


class FullRank(Family):
    """q(z) = Normal(z; loc, L L^T) with L = diag(softplus(raw_scale)) (I + N), N strictly lower triangular.

    `lower` holds N, d (d - 1) / 2 entries, row by row. Rows scaled by their own standard deviation keep L^-1 tame while
    the entries of N still wander: with L's entries free, a scale of 0.1 and steps of 0.04 make it explode.
    """

    def initial(self, loc: Tensor, scale: Scale = INITIAL_SCALE) -> dict[str, Tensor]:
        d = loc.shape[0]
        raw = raw_scales(scale, loc)
        return {"loc": loc.clone(), "raw_scale": raw, "lower": loc.new_zeros(d * (d - 1) // 2)}

    def draw(self, leaves: Leaves, noise: Tensor) -> Tensor:
        mixed = noise @ unit_lower(leaves).transpose(-1, -2)
        return leaves["loc"][:, None] + softplus(leaves["raw_scale"])[:, None] * mixed

    def log_prob(self, leaves: Leaves, z: Tensor) -> Tensor:
        standard, log_scale = self.standardise(leaves, z)
        return -0.5 * (standard * standard).sum(-1) - (log_scale + LOG_SQRT_2PI * self.size)[:, None]

    def density_of_draw(self, leaves: Leaves, noise: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.log_q_of_draw(leaves, noise), self.pull_back(leaves, -noise)

    def log_q_of_draw(self, leaves: Leaves, noise: Tensor) -> Tensor:
        return gaussian_of_draw(leaves, noise)

    def pull_back(self, leaves: Leaves, slope: Tensor) -> Tensor:
        """The gradient in z `(C, S, d)` of a function whose gradient in the noise that draws z is `slope`."""
        # d / dz = L^-T d / de, with L^-T = diag(1 / scale) (I + N)^-T.
        pulled = torch.linalg.solve_triangular(
            unit_lower(leaves).transpose(-1, -2), slope.transpose(-1, -2), upper=True, unitriangular=True
        )
        return pulled.transpose(-1, -2) / softplus(leaves["raw_scale"])[:, None]

    def standardise(self, leaves: Leaves, z: Tensor) -> tuple[Tensor, Tensor]:
        """The noise `(C, S, d)` that draws z `(C, S, d)`, and log det of the scale, `(C,)`."""
        scale = softplus(leaves["raw_scale"])
        scaled = (z - leaves["loc"][:, None]) / scale[:, None]
        standard = torch.linalg.solve_triangular(
            unit_lower(leaves), scaled.transpose(-1, -2), upper=False, unitriangular=True
        )
        return standard.transpose(-1, -2), scale.log().sum(-1)

    def distribution(self, leaves: Leaves) -> Distribution:
        scale_tril = softplus(leaves["raw_scale"])[:, None] * unit_lower(leaves)
        return MultivariateNormal(leaves["loc"], scale_tril=scale_tril)


def unit_lower(leaves: Leaves) -> Tensor:
    """I + N, `(*batch, d, d)`."""
    d = leaves["loc"].shape[-1]
    return unit_triangle(leaves["lower"], torch.ones(d, d, dtype=torch.bool).tril(-1))


def unit_triangle(lower: Tensor, inside: Tensor) -> Tensor:
    """The unit matrix plus the entries `(*batch, n)` at the n places `(d, d)` that are inside, row by row."""
    flat = inside.reshape(-1)
    places = (torch.cumsum(flat, 0) - 1).clamp(min=0).to(lower.device)
    mask, positions = flat.to(lower), flat.nonzero()[:, 0].to(lower.device)
    spread: Tensor = _Spread.apply(lower, places, positions)  # type: ignore[no-untyped-call]
    square = (spread * mask).reshape(*lower.shape[:-1], *inside.shape)
    return square + torch.eye(inside.shape[0], dtype=lower.dtype, device=lower.device)


class _Spread(torch.autograd.Function):
    """Entries below the diagonal to all places of a square, by a gather whose derivative is a gather too.

    A plain gather's derivative is a scatter, many times slower; here every entry has just one place that counts.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(lower: Tensor, places: Tensor, positions: Tensor) -> Tensor:
        if lower.shape[-1] == 0:
            return lower.new_zeros(*lower.shape[:-1], places.shape[0])
        return lower.index_select(-1, places)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (positions,) = ctx.saved_tensors
        return slopes[0].index_select(-1, positions), None, None
