"""Test scores of 434 children, regressed on their mothers' schooling and IQ."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, HalfCauchy, Normal

from vi_dist import Model, random_variable

# The prior of beta is flat; this is so wide that it is the same to every digit that matters.
WIDE = 1000.0


def build(data: dict[str, Tensor]) -> Model:
    """Regress ``score ~ Normal(beta[0] + beta[1] * mom_hs + beta[2] * mom_iq, sigma)``, ``sigma ~ HalfCauchy(2.5)``.

    Args:
        data: ``score``, ``mom_hs`` (whether she finished high school, 0 or 1) and ``mom_iq``, each of shape
            ``[children]``.
    """
    score = data["score"]
    design = torch.stack([torch.ones_like(score), data["mom_hs"], data["mom_iq"]], dim=1)

    @random_variable
    def beta() -> Distribution:
        return Normal(score.new_zeros(3), WIDE)

    @random_variable
    def sigma() -> Distribution:
        return HalfCauchy(score.new_tensor(2.5))

    @random_variable
    def kid_score() -> Distribution:
        return Normal(design @ beta(), sigma())

    return Model(queries=[beta(), sigma()], observations={kid_score(): score})
