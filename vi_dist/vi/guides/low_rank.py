"""Low-rank Gaussian: a few directions of correlation on top of independent scales."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, LowRankMultivariateNormal
from torch.nn.functional import softplus

from vi_dist.vi.guides.family import INITIAL_SCALE, Family, Leaves, Scale, fixed_normals, raw_scales
from vi_dist.vi.guides.mean_field import LOG_SQRT_2PI
from vi_dist.vi.noise import NoiseSite, NoiseSpace

# How large the columns of F start, together, beside the unit variance of the independent part: not at 0, where the
# gradient of F vanishes in expectation.
_START = 0.1


class LowRank(Family):
    """q(z) = Normal(z; loc, s (I + F F^T) s) with s = softplus(raw_scale) and `factor` F of d rows and `rank` columns.

    A draw is loc + s * (e + F h) with e in d and h in `rank` dimensions. With y = (z - loc) / s and M = I + F^T F
    the density needs no d x d matrix (Woodbury; Ong, Nott and Smith, Gaussian variational approximation with a factor
    covariance structure, arXiv 1701.03208): the quadratic form is |y|^2 - |M^-1/2 F^T y|^2, and log det is
    2 sum log s + log det M. Rank d - 1 contains every Gaussian; d (rank + 2) leaves.

    Args:
        space: the coordinates.
        rank: number of columns of F.
    """

    def __init__(self, space: NoiseSpace, rank: int) -> None:
        super().__init__(space)
        self.rank = rank

    @property
    def noise(self) -> NoiseSpace:
        return NoiseSpace((*self.space.sites, NoiseSite("#low_rank", self.rank)))

    def initial(self, loc: Tensor, scale: Scale = INITIAL_SCALE) -> dict[str, Tensor]:
        raw = fixed_normals("low_rank", (loc.shape[0], self.rank), loc)
        factor = raw * (_START / raw.square().sum(-1, keepdim=True).sqrt())
        own = raw_scales(scale / math.sqrt(1 + _START**2), loc)
        return {"loc": loc.clone(), "raw_scale": own, "factor": factor}

    def draw(self, leaves: Leaves, noise: Tensor) -> Tensor:
        own, shared = noise[..., : self.size], noise[..., self.size :]
        mixed = own + shared @ leaves["factor"].transpose(-1, -2)
        return leaves["loc"][:, None] + softplus(leaves["raw_scale"])[:, None] * mixed

    def log_prob(self, leaves: Leaves, z: Tensor) -> Tensor:
        factor = leaves["factor"]
        y = (z - leaves["loc"][:, None]) / softplus(leaves["raw_scale"])[:, None]
        root = self._root(factor)
        shared = torch.linalg.solve_triangular(root, (y @ factor).transpose(-1, -2), upper=False)
        quadratic = (y * y).sum(-1) - (shared * shared).sum(-2)
        return -0.5 * quadratic - self._constant(leaves, root)[:, None]

    def checked_log_q(self, leaves: Leaves, noise: Tensor, z: Tensor) -> Tensor:
        """log q of draws z `(C, S)`; NaN where it is not known to within a nat.

        With y = e + F h the quadratic form is the least of |y - F g|^2 + |g|^2 over g, met at g = h - M^-1 (h - F^T e).
        So written no large numbers cancel, and an error of g enters squared. That of log det M is at most the size of
        F^T F times eps, because no eigenvalue of M is below 1.
        """
        own, shared, factor = noise[..., : self.size], noise[..., self.size :], leaves["factor"]
        root = self._root(factor)
        residual = (shared - own @ factor).transpose(-1, -2)
        shift = torch.cholesky_solve(residual, root).transpose(-1, -2)
        left, least = own + shift @ factor.transpose(-1, -2), shared - shift
        quadratic = (left * left).sum(-1) + (least * least).sum(-1)
        log_q = -0.5 * quadratic - self._constant(leaves, root)[:, None]
        error = self.size * torch.finfo(noise.dtype).eps * factor.square().sum((-1, -2))
        return torch.where(error[:, None] <= 1.0, log_q, torch.full_like(log_q, math.nan))

    def _root(self, factor: Tensor) -> Tensor:
        """The Cholesky factor of M, `(C, rank, rank)`."""
        gram = factor.transpose(-1, -2) @ factor
        identity = torch.eye(self.rank, dtype=factor.dtype, device=factor.device)
        # The unchecked form: a column that is not finite gives NaN, where the checked one would stop its neighbours.
        return torch.linalg.cholesky_ex(gram + identity).L

    def _constant(self, leaves: Leaves, root: Tensor) -> Tensor:
        """What does not depend on z in minus log q, `(C,)`."""
        log_det = softplus(leaves["raw_scale"]).log().sum(-1) + root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return log_det + LOG_SQRT_2PI * self.size

    def distribution(self, leaves: Leaves) -> Distribution:
        scale = softplus(leaves["raw_scale"])
        return LowRankMultivariateNormal(leaves["loc"], scale[:, None] * leaves["factor"], scale.square())
