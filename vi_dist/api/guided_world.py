"""A fit as a `VariationalWorld`: the interactive form of the model under its guide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from torch.distributions import Distribution

from vi_dist.cluster.sweep_files import MODEL_PREFIX
from vi_dist.errors import ModelError
from vi_dist.model.decorators import random_variable
from vi_dist.model.identifier import RVIdentifier
from vi_dist.vi.autoguide import ADVI, MAP
from vi_dist.vi.context import model_context
from vi_dist.vi.guide_map import Query
from vi_dist.vi.layout import Layout
from vi_dist.vi.variational_world import VariationalWorld

if TYPE_CHECKING:
    from vi_dist.api.fitted_guide import FittedGuide

_ONE_BY_ONE = {"mean_field": ADVI, "delta": MAP}
"""Families that are one guide per latent, and the class that makes such guides."""


def guided_world(fit: FittedGuide) -> VariationalWorld:
    """A world with every query and observation instantiated, latents drawn from the guide; see `Fit.world`."""
    prepared = fit.ready()
    model, layout = prepared.model, prepared.layout
    if layout.summed_out is not None:
        raise ModelError(
            f"{layout.summed_out.names}: discrete latents were summed out and have no guide, so there is no such "
            "world; sample() draws them with the others",
            key="guide",
        )
    with model_context(prepared.dtype, prepared.device):
        guides, params = (
            _separate(fit, layout) if fit.guide_name in _ONE_BY_ONE else (_joint(fit, layout), {})
        )
        params |= {site.variable: fit.params[f"{MODEL_PREFIX}{site.name}"] for site in layout.params}
        world = VariationalWorld(model.observations, params=params, queries_to_guides=guides)
        for node in (*model.queries, *model.observations):
            world.call(node)
    return world


def _separate(
    fit: FittedGuide, layout: Layout
) -> tuple[dict[Query, RVIdentifier], dict[RVIdentifier, Tensor]]:
    """One guide per latent, whose params are its slices of the leaves."""
    model = fit.ready().model
    made = _ONE_BY_ONE[fit.guide_name](model.queries, model.observations)
    slices = {
        f"{site.name}.{leaf}": site.take(value)
        for leaf, value in fit.leaves().items()
        for site in layout.latents
    }
    params = {param: slices[str(param)] for param in made.params if str(param) in slices}
    return dict(made.queries_to_guides), params


def _joint(fit: FittedGuide, layout: Layout) -> dict[Query, RVIdentifier]:
    """One guide over the coordinates of all latents."""
    family, leaves = fit.guide(), fit.leaves()

    def guide() -> Distribution:
        return family.distribution(leaves)

    guide.__name__ = fit.guide_name
    return {tuple(site.variable for site in layout.latents): random_variable(guide)()}
