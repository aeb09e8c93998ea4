"""Full-rank Gaussian: one multivariate normal over all unconstrained coordinates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal
from torch.nn.functional import softplus

from vi_dist.vi.guides.family import INITIAL_SCALE, Family, Leaves, Scale, raw_scales
from vi_dist.vi.guides.mean_field import LOG_SQRT_2PI, gaussian_of_draw

# Up to so many coordinates an entry of N moves by the learning rate itself.
_FREE_SIZE = 25


class FullRank(Family):
    """q(z) = Normal(z; loc, L L^T) with L = diag(softplus(raw_scale)) (I + N), N strictly lower triangular.

    `lower` holds N, d (d - 1) / 2 entries, row by row. Rows scaled by their own standard deviation keep L^-1 tame while
    the entries of N still wander: with L's entries free, a scale of 0.1 and steps of 0.04 make it explode.
    """

    @property
    def pace(self) -> dict[str, float]:
        return triangle_pace(self.size)

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

    def draw_error(self, leaves: Leaves, noise: Tensor) -> Tensor:
        """Bounds `(C, S, d)` on the rounding errors of draws."""
        rows = torch.linalg.vector_norm(unit_lower(leaves), dim=-1) * softplus(leaves["raw_scale"])
        reach = (
            leaves["loc"].abs()[:, None] + rows[:, None] * torch.linalg.vector_norm(noise, dim=-1)[..., None]
        )
        return self.size * torch.finfo(noise.dtype).eps * reach

    def noise_error(self, leaves: Leaves, z: Tensor, error: Tensor, standard: Tensor) -> Tensor:
        """Bounds `(C, S)` on the norm of the rounding errors of `standard`, the noise of z, which is known to `error`.

        Args:
            z, error, standard: `(C, S, d)` each.

        A triangular solve gives the exact solution for a matrix that differs by at most d eps in every entry (Higham,
        Accuracy and Stability of Numerical Algorithms, theorem 8.5); the norm of the inverse carries that over.
        """
        eps, matrix = torch.finfo(z.dtype).eps, unit_lower(leaves)
        centred = error + eps * (z.abs() + leaves["loc"].abs()[:, None])
        given = torch.linalg.vector_norm(centred / softplus(leaves["raw_scale"])[:, None], dim=-1)
        identity = torch.eye(self.size, dtype=z.dtype, device=z.device).expand_as(matrix)
        inverse = torch.linalg.solve_triangular(matrix, identity, upper=False, unitriangular=True)
        own, back = (torch.linalg.matrix_norm(one)[:, None] for one in (matrix, inverse))
        return back * (given + self.size * eps * own * torch.linalg.vector_norm(standard, dim=-1))

    def distribution(self, leaves: Leaves) -> Distribution:
        scale_tril = softplus(leaves["raw_scale"])[:, None] * unit_lower(leaves)
        return MultivariateNormal(leaves["loc"], scale_tril=scale_tril)


def triangle_pace(size: int) -> dict[str, float]:
    """The pace of `lower`, for a triangle of `size` rows: 1 up to 25 of them, 25 / size beyond.

    Adam moves every entry of N by about the learning rate, whatever its gradient. Near an optimum entries therefore
    keep a variance in proportion to the rate, and the squared spectral norm of N is about d times that variance. Once
    that norm passes 1, the inverse of I + N grows exponentially with d, while the determinant, all that the entropy
    has of I + N, stays 1. So the rate of the entries falls as 1 / d: N then varies in 400 dimensions as it does in 25.
    """
    return {"lower": _FREE_SIZE / size} if size > _FREE_SIZE else {}


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
