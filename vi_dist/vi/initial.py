"""Where guides start: near the prior's median, the same place every time."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.transforms import Transform

from vi_dist.model.prior_median import prior_median


def initial_location(distribution: Distribution, transform: Transform) -> Tensor:
    """The prior's median in the unconstrained coordinates that `transform` maps to the distribution's support."""
    location: Tensor = transform.inv(prior_median(distribution)).detach().clone()
    return location
