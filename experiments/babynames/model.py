"""Which of 1,690,784 records of a name, a year and a sex are female: a logistic regression."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Normal

from vi_dist import Model, functional, random_variable

LETTERS = 26
SPREAD = 2.5


def build(data: dict[str, Tensor]) -> Model:
    """Regress sex on year, number of births, the name's length and its last letter, with 30 coefficients.

    ``intercept, slope, last ~ Normal(0, 2.5)`` and
    ``female ~ Bernoulli(logits = intercept + z @ slope + last[letter])``: all 26 letters have a coefficient, so that
    the prior alone tells them from the intercept. The coordinates are ``level = intercept + last``, of which the data
    know each for itself; the posterior is the same.

    Args:
        data: ``z_year``, ``z_log_births`` and ``z_length`` (standardised over all rows), ``letter`` (0 to 25) and
            ``female`` (0 or 1), each of shape ``[records]``.
    """
    z = torch.stack([data["z_year"], data["z_log_births"], data["z_length"]], dim=1)
    is_letter = data["letter"][:, None] == torch.arange(LETTERS, device=z.device)
    design = torch.cat((z, is_letter.to(z)), dim=1)

    @random_variable
    def intercept() -> Distribution:
        return Normal(z.new_tensor(0.0), SPREAD)

    @random_variable
    def slope() -> Distribution:
        return Normal(z.new_zeros(3), SPREAD)

    @random_variable
    def level() -> Distribution:
        return Normal(intercept().expand(LETTERS), SPREAD)

    @functional
    def last() -> Tensor:
        return level() - intercept()

    @random_variable
    def female() -> Distribution:
        return Bernoulli(logits=design @ torch.cat((slope(), level())))

    return Model([intercept(), slope(), level(), last()], {female(): data["female"].to(z)})
