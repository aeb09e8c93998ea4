"""Point estimate: all mass at one point, which goes to the mode in the model's own (constrained) space."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.distributions import Distribution

from vi_dist.model.delta import Delta
from vi_dist.vi.guides.family import INITIAL_SCALE, Family, Leaves, Scale


class DeltaFamily(Family):
    """q(z) = delta(z - loc). It has no density: log q counts as 0, and its ELBO is missing."""

    jacobian: ClassVar[bool] = False
    has_density: ClassVar[bool] = False

    def initial(self, loc: Tensor, scale: Scale = INITIAL_SCALE) -> dict[str, Tensor]:
        return {"loc": loc.clone()}

    def draw(self, leaves: Leaves, noise: Tensor) -> Tensor:
        return leaves["loc"][:, None].expand(-1, noise.shape[1], -1)

    def log_prob(self, leaves: Leaves, z: Tensor) -> Tensor:
        return z.new_zeros(z.shape[:2])

    def distribution(self, leaves: Leaves) -> Distribution:
        return Delta(leaves["loc"], event_dim=1)
