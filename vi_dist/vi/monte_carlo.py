"""Monte-Carlo objectives of the interactive engine: their value is the objective, their gradient the estimator's."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence

import torch
from torch import Tensor

from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.rv_dict import RVDict
from vi_dist.model.validation import unvalidated
from vi_dist.vi.discrete import monte_carlo_approximate_mixed
from vi_dist.vi.divergences import as_divergence
from vi_dist.vi.estimators import ESTIMATORS, check_combination, coefficients
from vi_dist.vi.guide_map import Query
from vi_dist.vi.objective import DiscrepancyFn, check_part, make_sampler
from vi_dist.vi.surrogate import draw_pairs, inner, param_pairs, reported


def monte_carlo_approximate_reparam(
    observations: RVDict,
    num_samples: int,
    discrepancy_fn: DiscrepancyFn,
    params: MutableMapping[RVIdentifier, Tensor],
    queries_to_guides: Mapping[Query, RVIdentifier],
    subsample_factor: float = 1.0,
    device: torch.device | None = None,
    local: Sequence[RVIdentifier] = (),
    *,
    biased_minibatches: bool = False,
) -> Tensor:
    """`monte_carlo_approximate` by reparameterised draws (Kingma and Welling, arXiv 1312.6114)."""
    return monte_carlo_approximate(
        observations,
        num_samples,
        discrepancy_fn,
        params,
        queries_to_guides,
        subsample_factor,
        device,
        local,
        estimator="reparam",
        biased_minibatches=biased_minibatches,
    )


def monte_carlo_approximate_sf(
    observations: RVDict,
    num_samples: int,
    discrepancy_fn: DiscrepancyFn,
    params: MutableMapping[RVIdentifier, Tensor],
    queries_to_guides: Mapping[Query, RVIdentifier],
    subsample_factor: float = 1.0,
    device: torch.device | None = None,
    local: Sequence[RVIdentifier] = (),
    *,
    biased_minibatches: bool = False,
) -> Tensor:
    """`monte_carlo_approximate` by the score function, for any guide, with a leave-one-out baseline.

    The guides' supports must not depend on their params.
    """
    return monte_carlo_approximate(
        observations,
        num_samples,
        discrepancy_fn,
        params,
        queries_to_guides,
        subsample_factor,
        device,
        local,
        estimator="score",
        biased_minibatches=biased_minibatches,
    )


def monte_carlo_approximate(
    observations: RVDict,
    num_samples: int,
    discrepancy_fn: DiscrepancyFn,
    params: MutableMapping[RVIdentifier, Tensor],
    queries_to_guides: Mapping[Query, RVIdentifier],
    subsample_factor: float = 1.0,
    device: torch.device | None = None,
    local: Sequence[RVIdentifier] = (),
    *,
    estimator: str = "reparam",
    biased_minibatches: bool = False,
    **arguments: float,
) -> Tensor:
    """Estimate a divergence between model and guides; with ``functools.partial`` an `mc_approx` for any estimator.

    The value is the objective (mean of g(l), or the bound of a multi-sample estimator), a scalar; its gradient is the
    estimator's, with the coefficients of `vi_dist.vi.estimators`. The model runs once per sample.

    Args:
        observations: observed values.
        num_samples: S.
        discrepancy_fn: g, elementwise in l = log p - log q.
        params: all params; those met for the first time are added.
        queries_to_guides: the guides of all latents.
        subsample_factor: the share of the data that is observed here, 0 < f <= 1; the observations, and the prior and
            entropy of `local` latents, count 1/f times.
        device: where the result goes; by default it stays where the model computes.
        local: latents that belong to rows of the data.
        estimator: a name in `ESTIMATORS`, with its `arguments`.
        biased_minibatches: train with a part of the data (subsample_factor below 1) what that biases.

    Raises `ModelError` for a latent without guide and for a guide that the estimator cannot draw from, `SpecError`
    for a divergence that the estimator cannot train, that cannot train the model's own params, or that a part of the
    data would bias.
    """
    if estimator == "mixed":
        return monte_carlo_approximate_mixed(
            observations, num_samples, discrepancy_fn, params, queries_to_guides, subsample_factor, device, local,
            biased_minibatches=biased_minibatches,
        )  # fmt: skip
    divergence, made = as_divergence(discrepancy_fn), ESTIMATORS[estimator].make(**arguments)
    check_combination(divergence, made)
    check_part(divergence, made, subsample_factor, local, biased_minibatches)
    sampler = make_sampler(observations, num_samples, params, queries_to_guides, subsample_factor, local)
    with unvalidated():
        draws = [sampler.draw("path" if made.uses_path else "score") for _ in range(num_samples)]
        log_p, log_q = map(torch.stack, zip(*map(sampler.log_densities, draws), strict=True))
    if any(leaf.requires_grad for leaf in sampler.model_leaves.used.values()):
        check_combination(divergence, made, model_params=True)
    weights = coefficients((log_p - log_q).detach()[None], divergence, estimator, **arguments)
    loss = weights.loss[0].detach().to(device)
    if not torch.is_grad_enabled():
        return loss
    through_draws = inner((weights.path[0] * (log_p - log_q)).sum(), draw_pairs(draws), retain=True)
    direct = (weights.score[0] * log_q).sum() + (weights.model[0] * log_p).sum()
    if not made.uses_path and local:
        # Rows count more than once in l, but each was drawn once.
        drawn = torch.stack([sampler.log_measure(draw, "score") for draw in draws])
        direct = direct - ((weights.score[0] + weights.model[0]) * (log_q - drawn)).sum()
    surrogate = through_draws + inner(direct, param_pairs(params, sampler.guide_leaves, sampler.model_leaves))
    return reported(loss, surrogate)
