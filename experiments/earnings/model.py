"""Earnings, height and sex of 1,192 adults: a linear regression with an interaction."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, HalfNormal, Normal

from vi_dist import Model, random_variable

# The priors are flat; these are so wide that they are the same to every digit that matters.
WIDE = 1000.0


def build(data: dict[str, Tensor]) -> Model:
    """Regress log earnings on standardised height, on sex and on their product; ``beta[0]`` is the intercept.

    ``log(earn) ~ Normal(beta[0] + beta[1] * z + beta[2] * male + beta[3] * z * male, sigma)`` with ``z`` the height in
    sample standard deviations from its mean.

    Args:
        data: ``earn`` in dollars, ``height`` in inches and ``male`` (0 or 1), each of shape ``[people]``.
    """
    height, male = data["height"], data["male"]
    z = (height - height.mean()) / height.std()
    design = torch.stack([torch.ones_like(z), z, male, z * male], dim=1)

    @random_variable
    def beta() -> Distribution:
        return Normal(z.new_zeros(4), WIDE)

    @random_variable
    def sigma() -> Distribution:
        return HalfNormal(z.new_tensor(WIDE))

    @random_variable
    def log_earnings() -> Distribution:
        return Normal(design @ beta(), sigma())

    return Model(queries=[beta(), sigma()], observations={log_earnings(): data["earn"].log()})
