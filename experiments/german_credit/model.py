"""Bayesian logistic regression on the German credit data: 1,000 applicants, 25 coefficients."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Normal

from vi_dist import Model, random_variable


def build(data: dict[str, Tensor]) -> Model:
    """Regress bad credit on the standardised features and an intercept, which comes first.

    ``beta ~ Normal(0, 1)`` for each coefficient and ``bad ~ Bernoulli(logits=design @ beta)``.

    Args:
        data: ``features`` of shape ``[rows, 24]`` as recorded, ``bad`` of shape ``[rows]`` with 1 for bad credit.
    """
    design = _design(data["features"])

    @random_variable
    def beta() -> Distribution:
        return Normal(design.new_zeros(design.shape[1]), 1.0)

    @random_variable
    def bad() -> Distribution:
        return Bernoulli(logits=design @ beta())

    return Model(queries=[beta()], observations={bad(): data["bad"]})


def _design(features: Tensor) -> Tensor:
    """Put a column of ones before the features, each with mean 0 and population standard deviation 1."""
    standardised = (features - features.mean(0)) / features.std(0, correction=0)
    return torch.cat([torch.ones_like(standardised[:, :1]), standardised], dim=1)
