"""What objectives of the interactive engine share: which a part of the data may train, and what they draw with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence

from torch import Tensor

from vi_dist.errors import ModelError, SpecError
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.rv_dict import RVDict
from vi_dist.vi.divergences import Divergence
from vi_dist.vi.estimators import Estimator, check_minibatches
from vi_dist.vi.guide_map import GuideMap, Query
from vi_dist.vi.guided_sample import LeafParams, Sampler

DiscrepancyFn = Callable[[Tensor], Tensor]


def check_part(
    divergence: Divergence,
    estimator: Estimator,
    subsample_factor: float,
    local: Sequence[RVIdentifier],
    insists: bool,
) -> None:
    """Raise `SpecError` for an objective that a part of the data would bias, unless the user insists."""
    if subsample_factor >= 1:
        return
    if not insists:
        check_minibatches(divergence, estimator, "biased_minibatches=True")
    elif local and not estimator.uses_score and not (estimator.linear and divergence.name == "kl_reverse"):
        raise SpecError(
            f"{estimator.name} leaves the score out because a draw has the density that its log weight counts; "
            f"{local[0]} is local and counts {1 / subsample_factor:g} times; use reparam or iwae",
            key="estimator",
            allowed=("reparam", "score", "iwae"),
        )


def make_sampler(
    observations: RVDict,
    num_samples: int,
    params: MutableMapping[RVIdentifier, Tensor],
    queries_to_guides: Mapping[Query, RVIdentifier],
    subsample_factor: float,
    local: Sequence[RVIdentifier],
) -> Sampler:
    """What an objective draws with; raises `ModelError` for numbers and `local` latents that cannot be."""
    guides = GuideMap.of(queries_to_guides)
    _check_numbers(num_samples, subsample_factor, guides, local)
    scale = 1.0 / subsample_factor
    return Sampler(observations, guides, params, LeafParams(params), LeafParams(params), scale, tuple(local))


def _check_numbers(
    num_samples: int, subsample_factor: float, guides: GuideMap, local: Sequence[RVIdentifier]
) -> None:
    if num_samples < 1:
        raise ModelError(f"num_samples is {num_samples}; at least one sample is needed", key="num_samples")
    if not 0 < subsample_factor <= 1:
        raise ModelError(
            f"subsample_factor is {subsample_factor}; it is the share of the data observed, in (0, 1]",
            key="subsample_factor",
        )
    for query in local:
        if guides.guide_of(query) is None:
            raise ModelError(f"{query} is declared local but has no guide", key="local")
        mixed = [other for other in guides.groups.get(query, ()) if other not in local]
        if mixed:
            raise ModelError(
                f"{query} is local and {mixed[0]} is not, so they cannot share a joint guide", key="local"
            )
