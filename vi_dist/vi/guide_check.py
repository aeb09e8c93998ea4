"""Whether guides fit their latents, found out by one draw before any step."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints

from vi_dist.errors import ModelError
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.observed import check_observation, check_observed_keys, check_shape
from vi_dist.model.rv_dict import RVDict
from vi_dist.model.support import is_discrete, support_of
from vi_dist.model.validation import unvalidated
from vi_dist.vi.guide_map import GuideMap
from vi_dist.vi.guided_sample import Draw, LeafParams, Params, Sampler


def check_guides(guides: GuideMap, observations: RVDict, params: Params) -> None:
    """Draw once, which initialises the params, and refuse what cannot be fitted. Raises `ModelError`, with names.

    Refused are: an observed latent with a guide, a latent without one, a guide that is discrete where its latent is
    not (or the reverse), that draws outside the latent's support or in a shape that does not fit it, and observations
    that their distributions cannot give.
    """
    check_observed_keys(observations)
    for query in guides.queries:
        if query in observations:
            raise ModelError(f"{query} is observed, so it needs no guide; drop one of the two", key="guide")
    sampler = Sampler(observations, guides, params, LeafParams(params), LeafParams(params))

    def draw() -> Draw:
        with unvalidated(), torch.no_grad():
            return sampler.draw("score")

    first = draw()
    for query in guides.queries:
        _check_fit(query, guides, first)
    for node in observations:
        check_observation(first.model_world, node, lambda: draw().model_world)


def _check_fit(query: RVIdentifier, guides: GuideMap, draw: Draw) -> None:
    variable = draw.model_world.get_variable(query)
    guide = guides.guide_of(query)
    assert guide is not None
    distribution = draw.guide_world.get_variable(guide).distribution
    if query in guides.groups:
        return
    if is_discrete(distribution) != is_discrete(variable.distribution):
        kinds = ["continuous", "discrete"]
        raise ModelError(
            f"the guide {guide} is a {kinds[is_discrete(distribution)]} {type(distribution).__name__}, but {query} is "
            f"{kinds[is_discrete(variable.distribution)]} ({type(variable.distribution).__name__}); guide a discrete "
            "variable with a discrete distribution, and with monte_carlo_approximate_mixed or _enumerated",
            key="guide",
        )
    check_shape(query, variable.value.shape, variable.distribution, f"guided by {guide}")
    support = support_of(variable.distribution)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    # Supports of vectors (simplices) are checked with a tolerance that float32 draws can miss.
    if support is not None and support.event_dim == 0 and not _inside(support, variable.value):
        raise ModelError(
            f"the guide {guide} draws values outside the support of {query} ({support}); map it there, for example "
            f"TransformedDistribution(..., [biject_to(support)])",
            key="guide",
        )


def _inside(support: constraints.Constraint, value: Tensor) -> bool:
    return bool((support.check(value) | ~torch.isfinite(value)).all())
