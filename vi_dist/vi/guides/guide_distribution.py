"""A guide of any family as a torch distribution."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from vi_dist.vi.guides.family import Family, Leaves


class GuideDistribution(Distribution):
    """One guide of a family for which torch has no distribution: event shape `(d,)`, no batch shape.

    Draws come from torch's generator and are differentiable in the leaves; so is `log_prob`.

    Args:
        family: the guide family.
        leaves: its leaves, without the leading axis of configurations.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, family: Family, leaves: Leaves) -> None:
        self.family = family
        self.leaves = {name: leaf[None] for name, leaf in leaves.items()}
        super().__init__(event_shape=Size((family.size,)), validate_args=False)

    def rsample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws `(*sample_shape, d)`, differentiable in the leaves."""
        shape, like = Size(sample_shape), next(iter(self.leaves.values()))
        noise = torch.randn(1, shape.numel(), self.family.noise.size, dtype=like.dtype, device=like.device)
        return self.family.draw(self.leaves, noise)[0].reshape(*shape, self.family.size)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log densities `(*batch)` at values `(*batch, d)`."""
        flat = value.reshape(1, -1, self.family.size)
        return self.family.log_prob(self.leaves, flat)[0].reshape(value.shape[:-1])
