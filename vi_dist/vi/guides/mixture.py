"""Mixture of Gaussians with equal weights: several modes, skewness, heavier tails."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.special import ndtr, ndtri

from vi_dist.vi.guides.family import INITIAL_SCALE, Family, Leaves, Scale, fixed_normals
from vi_dist.vi.guides.full_rank import FullRank
from vi_dist.vi.guides.guide_distribution import GuideDistribution
from vi_dist.vi.guides.mean_field import LOG_SQRT_2PI, MeanField
from vi_dist.vi.noise import NoiseSite, NoiseSpace

# The part of the initial variance that is between the components.
_SPREAD = 0.5


class Mixture(Family):
    """q(z) = (1 / K) sum_k q_k(z), q_k mean-field or full-rank Gaussians of their own.

    Equal weights, as in nonparametric variational inference (Gershman, Hoffman and Blei, arXiv 1206.4665): which
    component a draw comes from then depends on no leaf, so that draws are reparameterised exactly. A mode of twice the
    mass is met by twice the components. Steps of `reparam` and `stl` stratify (Morningstar et al., arXiv 2003.01687):
    component after component, where the step's samples allow it; other estimators take samples for independent.
    `reparam` lets every sample teach every component and is the estimator to prefer; with `stl` a component learns from
    its own samples only.

    Args:
        space: the coordinates.
        components: K.
        full_rank: whether the components have full-rank covariances.
    """

    def __init__(self, space: NoiseSpace, components: int = 2, full_rank: bool = False) -> None:
        super().__init__(space)
        self.components = components
        self._part: FullRank | MeanField = FullRank(space) if full_rank else MeanField(space)

    @property
    def pace(self) -> Mapping[str, float]:
        return self._part.pace

    @property
    def noise(self) -> NoiseSpace:
        return NoiseSpace((*self.space.sites, NoiseSite("#mixture", 1)))

    def initial(self, loc: Tensor, scale: Scale = INITIAL_SCALE) -> dict[str, Tensor]:
        k = self.components
        between = fixed_normals("mixture", (k, loc.shape[0]), loc)
        between = between - between.mean(0)
        size = between.square().mean(0).sqrt()
        spread = _SPREAD if k > 1 else 0.0
        offsets = between * (scale * math.sqrt(spread) / torch.where(size > 0, size, torch.ones_like(size)))
        part = self._part.initial(loc, scale * math.sqrt(1 - spread))
        leaves = {name: leaf.expand(k, *leaf.shape).clone() for name, leaf in part.items()}
        return {**leaves, "loc": leaves["loc"] + offsets}

    def stratify(self, noise: Tensor) -> Tensor:
        # Sample s takes component (s + offset) mod K, the offset from the first sample's own draw: each component in
        # turn, and where S is no multiple of K each equally often in the long run.
        offset = self._chosen(noise[:, :1])
        sample = torch.arange(noise.shape[1], device=noise.device)
        middle = (torch.remainder(sample + offset, self.components).to(noise.dtype) + 0.5) / self.components
        return torch.cat((noise[..., : self.size], ndtri(middle)[..., None]), -1)

    def draw(self, leaves: Leaves, noise: Tensor) -> Tensor:
        return self._of_chosen(self._part.draw(self._flat(leaves), self._each(noise)), noise)

    def log_prob(self, leaves: Leaves, z: Tensor) -> Tensor:
        parts = self._part.log_prob(self._flat(leaves), self._each(z)).unflatten(0, (-1, self.components))
        return torch.logsumexp(parts, 1) - math.log(self.components)

    def checked_log_q(self, leaves: Leaves, noise: Tensor, z: Tensor) -> Tensor:
        """log q of draws z `(C, S)`; NaN where it is not known to within a nat.

        log q_k of the component k that made a draw is known from its noise, and bounds log q from below. The other
        components solve for the noise that would make the same draw; its error bounds theirs from both sides.
        """
        flat, each, points = self._flat(leaves), self._each(noise), self._each(z)
        standard, log_scale = self._part.standardise(flat, points)
        radius = torch.linalg.vector_norm(standard, dim=-1)
        drawn = self._each(self._of_chosen(self._part.draw_error(flat, each), noise))
        error = self._part.noise_error(flat, points, drawn, standard)
        radii = (
            radius,
            (radius - error).nan_to_num(0.0).clamp_min(0.0),
            (radius + error).nan_to_num(math.inf),
        )
        peak = -(log_scale + LOG_SQRT_2PI * self.size)[:, None]
        made = nn.functional.one_hot(self._chosen(noise), self.components).transpose(1, 2).bool()
        own = self._part.log_q_of_draw(flat, each).unflatten(0, (-1, self.components))
        log_q, upper, lower = (
            torch.logsumexp(
                torch.where(made, own, (peak - 0.5 * one * one).unflatten(0, (-1, self.components))), 1
            )
            for one in radii
        )
        known = upper - lower <= 1.0
        return torch.where(known, log_q, torch.full_like(log_q, math.nan)) - math.log(self.components)

    def distribution(self, leaves: Leaves) -> Distribution:
        return GuideDistribution(self, leaves)

    def _chosen(self, noise: Tensor) -> Tensor:
        """The component of every sample, `(C, S)`: the part of the unit interval in which its normal's rank lies."""
        rank = ndtr(noise[..., self.size]) * self.components
        return rank.floor().clamp(max=self.components - 1).to(torch.int64)

    def _each(self, values: Tensor) -> Tensor:
        """What all components see, `(C, S, d or more)`, once for every guide of `_flat`, `(C K, S, d)`."""
        own = values[:, None, :, : self.size]
        return own.expand(-1, self.components, -1, -1).flatten(0, 1)

    def _of_chosen(self, values: Tensor, noise: Tensor) -> Tensor:
        """Of the components' values `(C K, S, d)` those of the component that makes each draw, `(C, S, d)`."""
        chosen = self._chosen(noise)[:, None, :, None].expand(-1, 1, -1, self.size)
        return values.unflatten(0, (-1, self.components)).gather(1, chosen)[:, 0]

    def _flat(self, leaves: Leaves) -> dict[str, Tensor]:
        """Leaves `(C, K, *shape)` of the components as those of C K guides."""
        return {name: leaf.flatten(0, 1) for name, leaf in leaves.items()}
