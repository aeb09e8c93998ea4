"""Objectives for guides of which some have no reparameterised draws, discrete ones among them.

Of the log weight l = log p - log q, and log r the part of log q that belongs to guides drawn without a gradient,

    grad E_q[g(l)] = E_q[ g'(l) dl + g(l) dlog r ] = E_q[ g' d(log p - log (q / r)) + (g - g') dlog r ],

d along the draws that have a gradient and along the params. So one part takes the coefficients of `reparam`, the other
those of `score` (Schulman et al., stochastic computation graphs, arXiv 1506.05254).
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence

import torch
from torch import Tensor

from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.rv_dict import RVDict
from vi_dist.model.validation import unvalidated
from vi_dist.vi.divergences import as_divergence
from vi_dist.vi.estimators import check_combination, coefficients, reparam, slopes
from vi_dist.vi.guide_map import Query
from vi_dist.vi.guided_sample import Draw, Sampler
from vi_dist.vi.objective import DiscrepancyFn, check_part, make_sampler
from vi_dist.vi.surrogate import draw_pairs, inner, param_pairs, reported


def monte_carlo_approximate_mixed(
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
    enumerated: bool = False,
) -> Tensor:
    """`monte_carlo_approximate` by reparameterised draws where a guide has them, and by the score function elsewhere.

    The score function has a leave-one-out baseline, so give it two samples at least. Supports of guides without
    reparameterised draws must not depend on params. `enumerated`: as `monte_carlo_approximate_enumerated`.
    """
    divergence = as_divergence(discrepancy_fn)
    check_combination(divergence, reparam)
    check_part(divergence, reparam, subsample_factor, local, biased_minibatches)
    sampler = make_sampler(observations, num_samples, params, queries_to_guides, subsample_factor, local)
    with unvalidated():
        draws = _draws(sampler, num_samples, enumerated)
        log_p, log_q = map(torch.stack, zip(*map(sampler.log_densities, draws), strict=True))
        log_r = torch.stack([sampler.log_measure(draw, "mixed") for draw in draws])
    if any(leaf.requires_grad for leaf in sampler.model_leaves.used.values()):
        check_combination(divergence, reparam, model_params=True)
    l = (log_p - log_q).detach()
    value, slope, _ = slopes(divergence, l)
    if enumerated:
        weights = log_r.detach().exp() / num_samples
        scores = weights * (value - slope)
    else:
        weights = torch.full_like(l, 1 / num_samples)
        scores = coefficients(l[None], divergence, "score").score[0]
    loss = (weights * value).sum().detach().to(device)
    if not torch.is_grad_enabled():
        return loss
    total = (weights * slope * (log_p - log_q + log_r) + scores * log_r).sum()
    pairs = [*draw_pairs(draws), *param_pairs(params, sampler.guide_leaves, sampler.model_leaves)]
    return reported(loss, inner(total, pairs))


def monte_carlo_approximate_enumerated(
    observations: RVDict,
    num_samples: int,
    discrepancy_fn: DiscrepancyFn,
    params: MutableMapping[RVIdentifier, Tensor],
    queries_to_guides: Mapping[Query, RVIdentifier],
    subsample_factor: float = 1.0,
    device: torch.device | None = None,
    local: Sequence[RVIdentifier] = (),
) -> Tensor:
    """`monte_carlo_approximate` with the exact expectation over discrete guides, and `rsample` of the others.

    Model and guides run once per sample and combination of the discrete guides' values; without other guides one sample
    is exact. Raises `ModelError` for a discrete guide whose values cannot be listed, or of too many combinations.
    """
    return monte_carlo_approximate_mixed(
        observations,
        num_samples,
        discrepancy_fn,
        params,
        queries_to_guides,
        subsample_factor,
        device,
        local,
        enumerated=True,
    )


def _draws(sampler: Sampler, num_samples: int, enumerated: bool) -> list[Draw]:
    if not enumerated:
        return [sampler.draw("mixed") for _ in range(num_samples)]
    return [draw for _ in range(num_samples) for draw in sampler.combinations()]
