"""Mean-field Gaussian: independent normals in unconstrained space (ADVI, Kucukelbir et al., arXiv 1603.00788)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import softplus

from vi_dist.vi.guides.family import INITIAL_SCALE, Family, Leaves, Scale, raw_scales

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class MeanField(Family):
    """q(z) = prod_i Normal(z_i; loc_i, softplus(raw_scale_i)).

    >>> import torch
    >>> from vi_dist.vi.noise import NoiseSite, NoiseSpace
    >>> guide = MeanField(NoiseSpace((NoiseSite("theta", 3),)))
    >>> guide.distribution(guide.initial(torch.zeros(3))).event_shape
    torch.Size([3])
    """

    def initial(self, loc: Tensor, scale: Scale = INITIAL_SCALE) -> dict[str, Tensor]:
        return {"loc": loc.clone(), "raw_scale": raw_scales(scale, loc)}

    def draw(self, leaves: Leaves, noise: Tensor) -> Tensor:
        return leaves["loc"][:, None] + softplus(leaves["raw_scale"])[:, None] * noise

    def log_prob(self, leaves: Leaves, z: Tensor) -> Tensor:
        standard, log_scale = self.standardise(leaves, z)
        return -0.5 * (standard * standard).sum(-1) - (log_scale + LOG_SQRT_2PI * self.size)[:, None]

    def standardise(self, leaves: Leaves, z: Tensor) -> tuple[Tensor, Tensor]:
        """The noise `(C, S, d)` that draws z `(C, S, d)`, and log det of the scale, `(C,)`."""
        scale = softplus(leaves["raw_scale"])
        return (z - leaves["loc"][:, None]) / scale[:, None], scale.log().sum(-1)

    def draw_error(self, leaves: Leaves, noise: Tensor) -> Tensor:
        """Bounds `(C, S, d)` on the rounding errors of draws."""
        reach = leaves["loc"].abs()[:, None] + softplus(leaves["raw_scale"])[:, None] * noise.abs()
        return 4 * torch.finfo(noise.dtype).eps * reach

    def noise_error(self, leaves: Leaves, z: Tensor, error: Tensor, standard: Tensor) -> Tensor:
        """Bounds `(C, S)` on the norm of the rounding errors of `standard`, the noise of z, which is known to `error`.

        Args:
            z, error, standard: `(C, S, d)` each.
        """
        eps = torch.finfo(z.dtype).eps
        centred = error + eps * (z.abs() + leaves["loc"].abs()[:, None])
        own = centred / softplus(leaves["raw_scale"])[:, None] + 4 * eps * standard.abs()
        return torch.linalg.vector_norm(own, dim=-1)

    def density_of_draw(self, leaves: Leaves, noise: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.log_q_of_draw(leaves, noise), -noise / softplus(leaves["raw_scale"])[:, None]

    def log_q_of_draw(self, leaves: Leaves, noise: Tensor) -> Tensor:
        return gaussian_of_draw(leaves, noise)

    def distribution(self, leaves: Leaves) -> Distribution:
        return Independent(Normal(leaves["loc"], softplus(leaves["raw_scale"])), 1)


def gaussian_of_draw(leaves: Leaves, noise: Tensor) -> Tensor:
    """log q `(C, S)` at the draws of a Gaussian whose map from noise has the determinant prod softplus(raw_scale)."""
    constant = softplus(leaves["raw_scale"]).log().sum(-1) + LOG_SQRT_2PI * noise.shape[-1]
    return -0.5 * (noise * noise).sum(-1) - constant[:, None]
