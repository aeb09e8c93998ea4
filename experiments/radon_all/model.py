"""Radon in 12,573 homes: one intercept for each of 386 counties, drawn from a common distribution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, HalfNormal, Normal

from vi_dist import Model, functional, random_variable

# About how many homes tell as much of a county's level as the spread between counties does: (sigma_y / sigma_alpha)^2.
# It sets coordinates only; the posterior of alpha is the same for every value.
HOMES_AS_GOOD_AS_THE_PRIOR = 3.0


def build(data: dict[str, Tensor]) -> Model:
    """Regress log radon on the county's uranium and on the floor, with an intercept ``alpha`` for each county.

    ``mu_alpha, beta ~ Normal(0, 10)``, ``sigma_alpha, sigma_y ~ HalfNormal(1)``,
    ``alpha ~ Normal(mu_alpha, sigma_alpha)`` and
    ``log_radon ~ Normal(alpha[county] + beta[0] * log_uranium + beta[1] * floor, sigma_y)``.

    The counties hold from 1 to 765 homes: centred coordinates suit the large ones, non-centred the small ones. So
    each county gets coordinates in between, ``alpha = mu_alpha + sigma_alpha^(1 - w) * (alpha_part - w * mu_alpha)``
    with ``w`` its share of what is known from data (Papaspiliopoulos, Roberts and Sköld, 2007).

    Args:
        data: ``county`` (0-based), ``log_uranium``, ``floor`` and ``log_radon``, each of shape ``[homes]``.
    """
    county, observed = data["county"], data["log_radon"]
    covariates = torch.stack([data["log_uranium"], data["floor"]], dim=1)
    homes = torch.bincount(county).to(observed)
    w = homes / (homes + HOMES_AS_GOOD_AS_THE_PRIOR)

    @random_variable
    def mu_alpha() -> Distribution:
        return Normal(observed.new_tensor(0.0), 10.0)

    @random_variable
    def sigma_alpha() -> Distribution:
        return HalfNormal(observed.new_tensor(1.0))

    @random_variable
    def beta() -> Distribution:
        return Normal(observed.new_zeros(2), 10.0)

    @random_variable
    def sigma_y() -> Distribution:
        return HalfNormal(observed.new_tensor(1.0))

    @random_variable
    def alpha_part() -> Distribution:
        return Normal(w * mu_alpha(), sigma_alpha() ** w)

    @functional
    def alpha() -> Tensor:
        return mu_alpha() + sigma_alpha() ** (1 - w) * (alpha_part() - w * mu_alpha())

    @random_variable
    def log_radon() -> Distribution:
        return Normal(alpha()[county] + covariates @ beta(), sigma_y())

    return Model(
        queries=[mu_alpha(), sigma_alpha(), beta(), sigma_y(), alpha_part(), alpha()],
        observations={log_radon(): observed},
        local=[
            alpha_part()
        ],  # a county's intercept belongs to its homes: where shards are asked for, by county
    )
