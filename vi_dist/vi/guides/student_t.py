"""Student-t guides: heavier tails than a Gaussian's, independent or with one full-rank scale."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent
from torch.distributions import StudentT as UnivariateT
from torch.nn.functional import softplus

from vi_dist.vi.guides.family import INITIAL_SCALE, Family, Leaves, Scale, raw_scales
from vi_dist.vi.guides.full_rank import FullRank
from vi_dist.vi.guides.guide_distribution import GuideDistribution
from vi_dist.vi.noise import NoiseSite, NoiseSpace


def student_t(space: NoiseSpace, df: float = 5.0, full_rank: bool = False) -> Family:
    """The Student-t family with `df` degrees of freedom, independent or full-rank."""
    return FullRankT(space, df) if full_rank else MeanFieldT(space, df)


def bailey(first: Tensor, second: Tensor, df: Tensor | float) -> Tensor:
    """Student-t variates from two independent standard normals each: exact, smooth, for every df > 0.

    Bailey's polar form (Math. Comp. 62, 1994) is sqrt(df (u^(-2/df) - 1)) cos(2 pi v) with u, v uniform. With u and v
    taken from the polar coordinates of the normals, u = exp(-r^2 / 2), it becomes first / r * sqrt(df expm1(r^2 / df)).
    """
    square = (first * first + second * second).clamp_min(1e-12)
    return first * torch.sqrt(torch.expm1(square / df) * df / square)


def _own_scale(scale: Scale, df: float) -> Scale:
    """The scale of a Student-t of standard deviation `scale`; just that where it has no standard deviation."""
    return scale * math.sqrt((df - 2) / df) if df > 2 else scale


def _second_sites(space: NoiseSpace) -> NoiseSpace:
    return NoiseSpace(
        (*space.sites, *(NoiseSite(f"{site.name}#student_t", site.size) for site in space.sites))
    )


class MeanFieldT(Family):
    """q(z) = prod_i StudentT(z_i; df, loc_i, softplus(raw_scale_i)), df fixed.

    A tail this heavy meets every part of the posterior's tail, which makes importance weights bounded where the
    posterior's own tails are lighter. The price: where the log joint falls exponentially in a coordinate (the log of a
    scale often does), the ELBO of every Student-t is minus infinity, and its estimate hangs on the largest draw; the
    forward KL and the power divergences do not mind.
    """

    def __init__(self, space: NoiseSpace, df: float) -> None:
        super().__init__(space)
        self.df = df

    @property
    def noise(self) -> NoiseSpace:
        return _second_sites(self.space)

    def initial(self, loc: Tensor, scale: Scale = INITIAL_SCALE) -> dict[str, Tensor]:
        return {
            "loc": loc.clone(),
            "raw_scale": raw_scales(_own_scale(scale, self.df), loc),
        }

    def draw(self, leaves: Leaves, noise: Tensor) -> Tensor:
        return leaves["loc"][:, None] + softplus(leaves["raw_scale"])[:, None] * self._standard(noise)

    def log_prob(self, leaves: Leaves, z: Tensor) -> Tensor:
        scale = softplus(leaves["raw_scale"])
        return self._log_density(leaves, (z - leaves["loc"][:, None]) / scale[:, None])

    def checked_log_q(self, leaves: Leaves, noise: Tensor, z: Tensor) -> Tensor:
        return self._log_density(leaves, self._standard(noise))

    def _standard(self, noise: Tensor) -> Tensor:
        """Standard draws `(C, S, d)`."""
        return bailey(noise[..., : self.size], noise[..., self.size :], self.df)

    def _log_density(self, leaves: Leaves, y: Tensor) -> Tensor:
        """log q `(C, S)` where the standardised coordinates are y `(C, S, d)`."""
        scale, df = softplus(leaves["raw_scale"]), self.df
        constant = scale.log().sum(-1) + self.size * _log_normaliser(df, 1)
        return -0.5 * (df + 1) * torch.log1p(y * y / df).sum(-1) - constant[:, None]

    def distribution(self, leaves: Leaves) -> Distribution:
        return Independent(UnivariateT(self.df, leaves["loc"], softplus(leaves["raw_scale"])), 1)


class FullRankT(Family):
    """q(z) = multivariate StudentT(z; df, loc, scale L L^T), L = diag(softplus(raw_scale)) (I + N), as in `full_rank`.

    Standard draws x come coordinate by coordinate: given those before it, x_k is sqrt((df + |x_<k|^2) / (df + k)) times
    a univariate t of df + k degrees of freedom, k = 0, 1, ... (Ding, arXiv 1604.00561); the factors
    df + |x_<k|^2 = df prod_{j<k} (1 + t_j^2 / (df + j)) make it one cumulative sum. The warning of `MeanFieldT` on the
    ELBO holds here too.
    """

    def __init__(self, space: NoiseSpace, df: float) -> None:
        super().__init__(space)
        self.df = df
        self._affine = FullRank(space)

    @property
    def pace(self) -> Mapping[str, float]:
        return self._affine.pace

    @property
    def noise(self) -> NoiseSpace:
        return _second_sites(self.space)

    def initial(self, loc: Tensor, scale: Scale = INITIAL_SCALE) -> dict[str, Tensor]:
        return self._affine.initial(loc, _own_scale(scale, self.df))

    def draw(self, leaves: Leaves, noise: Tensor) -> Tensor:
        return self._affine.draw(leaves, self._standard(noise))

    def log_prob(self, leaves: Leaves, z: Tensor) -> Tensor:
        return self._log_density(*self._affine.standardise(leaves, z))

    def checked_log_q(self, leaves: Leaves, noise: Tensor, z: Tensor) -> Tensor:
        return self._log_density(self._standard(noise), softplus(leaves["raw_scale"]).log().sum(-1))

    def _standard(self, noise: Tensor) -> Tensor:
        """Standard draws `(C, S, d)`."""
        degrees = self.df + torch.arange(self.size, dtype=noise.dtype, device=noise.device)
        t = bailey(noise[..., : self.size], noise[..., self.size :], degrees)
        growth = torch.log1p(t * t / degrees)
        before = torch.cumsum(growth, -1) - growth
        return t * torch.exp(0.5 * before) * torch.sqrt(self.df / degrees)

    def _log_density(self, standard: Tensor, log_scale: Tensor) -> Tensor:
        """log q `(C, S)` at standardised coordinates `(C, S, d)`, the log det of the scale `(C,)`."""
        constant = log_scale + _log_normaliser(self.df, self.size)
        power = -0.5 * (self.df + self.size)
        return power * torch.log1p((standard * standard).sum(-1) / self.df) - constant[:, None]

    def distribution(self, leaves: Leaves) -> Distribution:
        return GuideDistribution(self, leaves)


def _log_normaliser(df: float, d: int) -> float:
    """log of the integral of (1 + |x|^2 / df)^(-(df + d) / 2) over d dimensions."""
    return math.lgamma(df / 2) - math.lgamma((df + d) / 2) + 0.5 * d * math.log(df * math.pi)
