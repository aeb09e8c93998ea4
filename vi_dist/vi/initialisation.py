"""Where guides start, by name. The seed moves none of it: seeds tell fits apart by their noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vi_dist.errors import ModelError
from vi_dist.model.model import Model
from vi_dist.model.prior_median import prior_median
from vi_dist.model.support import support_of
from vi_dist.model.validation import unvalidated
from vi_dist.model.world import World
from vi_dist.vi.guides.family import INITIAL_SCALE, Scale
from vi_dist.vi.laplace_scale import Mode
from vi_dist.vi.layout import Layout, unconstrained
from vi_dist.vi.table import Entry


@dataclass(frozen=True)
class Start:
    """Centre `(d,)` of a guide before its first step, and its standard deviations, one for all or `(d,)`."""

    loc: Tensor
    scale: Scale = INITIAL_SCALE


@dataclass(frozen=True)
class Places:
    """What starts are made of.

    Attributes:
        median: coordinates `(d,)` near the prior's median.
        find_mode: gives the mode, if there is one.
        find_values: gives a user's values as coordinates `(d,)`.
    """

    median: Tensor
    find_mode: Callable[[], Mode | None]
    find_values: Callable[[], Tensor]


def _prior_median(places: Places) -> Start:
    return Start(places.median)


def _mode(places: Places) -> Start:
    mode = places.find_mode()
    return Start(places.median if mode is None else mode.loc)


def _laplace(places: Places) -> Start:
    mode = places.find_mode()
    return Start(places.median) if mode is None else Start(mode.loc, mode.root.square().sum(-1).sqrt())


def _values(places: Places) -> Start:
    return Start(places.find_values())


def start_of(initialisation: str, places: Places) -> Start:
    """Where a guide starts that is initialised so."""
    start: Start = INITIALISATIONS[initialisation].make()(places)
    return start


INITIALISATIONS: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("prior_median", "at the prior's median, with a small scale", lambda: _prior_median),
        Entry("mode", "at the mode, found by Newton steps, with a small scale", lambda: _mode),
        Entry(
            "laplace", "at the mode, with the Laplace approximation's standard deviations", lambda: _laplace
        ),
        Entry(
            "values",
            "at values that only Python can give (initial_values), with a small scale",
            lambda: _values,
        ),
    )
}


def coordinates_of(model: Model, layout: Layout, values: Mapping[str, object]) -> Tensor:
    """Coordinates `(d,)` of values by the latents' names; latents without one are at the prior's median given them.

    Raises `ModelError` for a name that is no latent's, a value of another shape, and one outside of the support.
    """
    sites = {site.name: site for site in layout.latents}
    given = {}
    for name, value in values.items():
        if name not in sites:
            raise ModelError(
                f"initial_values names {name}, which is no latent of the model",
                key="initial_values",
                allowed=[*sites],
            )
        tensor = torch.as_tensor(value, dtype=layout.loc.dtype, device=layout.loc.device)
        if tensor.shape != sites[name].shape:
            raise ModelError(
                f"initial_values has {name} of shape {tuple(tensor.shape)}; it is {tuple(sites[name].shape)}",
                key="initial_values",
            )
        given[sites[name].variable] = tensor
    world = World({**model.observations, **given}, prior_median)
    with unvalidated(), world:
        for variable in (*model.queries, *model.observations, *given):
            world.call(variable)
    parts = []
    for site in layout.latents:
        node = world.get_variable(site.variable)
        part = unconstrained(site.variable, node.distribution, node.value).detach().reshape(-1)
        support = support_of(node.distribution)
        if not (support is None or bool(support.check(node.value).all())) or not bool(part.isfinite().all()):
            raise ModelError(
                f"the initial value of {site.name} is not inside of its support, {support}",
                key="initial_values",
            )
        parts.append(part)
    return torch.cat(parts).to(layout.loc)
