"""Whether a model has a posterior at all: its log joint, far out along lines, falls off fast enough for an integral.

If the integral along lines of one direction is infinite for lines through all points of some region, the posterior is
improper (Tonelli). So lines are probed through two points that have nothing special about them. First each latent's own
density given its parents, which costs nothing beside the data; then, where that does not fall off, the log joint, in
directions that the data may leave open, and again with latents of a location and a scale non-centred, since groups
follow a scale to 0; and the log joint along coordinates, for a likelihood that grows without bound.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from vi_dist.errors import ModelError
from vi_dist.model.coordinates import at_coordinates
from vi_dist.model.support import base_of
from vi_dist.vi.culprit import world_at
from vi_dist.vi.density import Density
from vi_dist.vi.far_out import distances, falls_off, heights
from vi_dist.vi.layout import Layout, element_names
from vi_dist.vi.probe import Line, LogDensities, centres_of

log = logging.getLogger(__name__)

MOST_NUMBERS = 1 << 25
"""Observed numbers whose densities are computed for one check, at most; beyond, fewer lines are probed."""
_MOST_LINES = 128
_MOST_SUSPECTS = 64
_MOST_EVENT = 64
_EVENT_NUMBERS = (
    1 << 22
)  # directions of a vector times the square of its length, the price of a Gaussian's density


def check_proper(density: Density, observed: bool = True) -> None:
    """Raise `ModelError` where the posterior is improper, naming the latent; runs in the model's context, in float64.

    Args:
        density: of the coordinates, with the Jacobian.
        observed: whether the density has seen all data; of a shard it has not, and a latent whose prior does not fall
            off is warned about, not refused.
    """
    layout, values = density.layout, LogDensities(density)
    centres = centres_of(layout, values)
    if not centres:
        return
    own = [set(own_suspects(density, values.row(centre))) for centre in centres]
    suspects = sorted(set.intersection(*own))
    if not observed:
        if suspects:
            named = ", ".join(dict.fromkeys(element_at(layout, index) for index in suspects))
            log.warning(
                "the prior of %s is improper; that all shards together identify it is not probed", named
            )
        return
    lines = [*_suspected(density, values, centres[0], suspects), *_others(layout, set(suspects), values)]
    _refuse_open(density, values, lines, centres)
    if suspects and layout.summed_out is None:
        values = LogDensities(density, non_centred=True)
        lines = [_coordinate_line(layout, index) for index in _thinned(suspects)]
        _refuse_open(density, values, lines, centres_of(layout, values))


def _refuse_open(
    density: Density, values: LogDensities, lines: Sequence[Line], centres: Sequence[Tensor]
) -> None:
    """Refuse a model whose log density does not fall off along one of the lines through any of the centres."""
    for centre in centres:
        lines = values.open_lines(centre, lines)
    if centres and lines:
        raise ModelError(_message(lines[0], density, values, centres[0]), key="model")


def own_suspects(density: Density, row: Tensor) -> Iterator[int]:
    """The coordinates along which a latent's density, given its parents at a row `(D,)`, does not fall off."""
    world = world_at(density, row)
    for site in density.layout.latents:
        distribution = base_of(world.get_variable(site.variable).distribution)
        batch = distribution.batch_shape
        if not batch.numel() or site.size % batch.numel():
            continue
        places = torch.arange(site.size).reshape(batch.numel(), -1)
        size = places.shape[1]
        count = max(1, min(_MOST_EVENT, size, _EVENT_NUMBERS // size**2))
        one_by_one = [places[:, k : k + 1] for k in range(0, size, -(-size // count))]
        # All of an event's together as well: a density of vectors may not change when all elements do.
        for moved in one_by_one if size == 1 else [*one_by_one, places]:
            for place in moved[_open_elements(distribution, site.take(row), moved)].reshape(-1).tolist():
                yield site.start + int(place)


def _open_elements(distribution: Distribution, coordinates: Tensor, moved: Tensor) -> Tensor:
    """Which of b distributions do not fall off as coordinates `moved` `(b, k)` of each go far out together, `(b,)`."""
    direction = torch.zeros(coordinates.numel(), dtype=coordinates.dtype)
    direction[moved.reshape(-1)] = 1.0
    count, reach = len(moved), distances()
    falls = torch.ones(count, dtype=torch.bool)

    def one(step: Tensor) -> Tensor:
        point = at_coordinates(distribution, coordinates + step * direction.reshape(coordinates.shape))
        each = point.log_density
        each = each.reshape(-1) if each.numel() == count else each.sum().expand(count)
        return torch.where(point.value.isfinite().all(), each, torch.full_like(each, math.nan))

    for sign in (1.0, -1.0):
        steps = sign * reach.reshape(-1)
        with torch.no_grad():
            try:
                found = torch.vmap(one)(steps)
            except Exception:  # a density that reads a value in Python
                found = torch.stack([one(step) for step in steps])
        falls &= falls_off(heights(found.reshape(*reach.shape, -1)))
    return ~falls


def _suspected(
    density: Density, values: LogDensities, centre: Tensor, suspects: Sequence[int]
) -> Iterator[Line]:
    """The directions in which coordinates without a proper prior of their own may be left open by the data."""
    layout, chosen = density.layout, _thinned(suspects)
    for index in chosen:
        yield _coordinate_line(layout, index)
    if len(chosen) < 2:
        return
    # Null directions are known to some 1e-12 only: further out than 1e6 their error would show.
    near = distances(4)
    sites = [
        site for site in layout.latents if set(range(site.start, site.start + site.size)) <= set(suspects)
    ]
    for one in sites[:8]:
        for other in sites[:8]:
            if one.start < other.start:
                away = _unit(layout.size, range(one.start, one.start + one.size))
                back = _unit(layout.size, range(other.start, other.start + other.size))
                yield Line(away - back, f"{one.name} and {other.name}", True, near)
    for direction in _null_directions(values, centre, chosen):
        moved = [index for index in chosen if abs(float(direction[index])) > 1e-3]
        yield Line(
            direction, ", ".join(dict.fromkeys(element_at(layout, index) for index in moved)), True, near
        )


def _thinned(suspects: Sequence[int]) -> Sequence[int]:
    """Some of them, evenly spaced."""
    return suspects[:: -(-len(suspects) // _MOST_SUSPECTS) or 1]


def _coordinate_line(layout: Layout, index: int) -> Line:
    return Line(_unit(layout.size, [index]), element_at(layout, index), True, distances())


def _null_directions(values: LogDensities, centre: Tensor, chosen: Sequence[int]) -> list[Tensor]:
    """Directions among some coordinates in which the log density has no curvature, 8 at most."""
    places = torch.tensor(list(chosen))

    def along(part: Tensor) -> Tensor:
        return values.one(values.row(centre.index_put((places,), part)))

    with torch.enable_grad():
        try:
            hessian = torch.autograd.functional.hessian(along, centre[places])
        except Exception:  # no gradient depends on these coordinates, or the model raises
            return []
    if not bool(hessian.isfinite().all()):
        return []
    sizes, vectors = torch.linalg.eigh(hessian)
    small = (sizes.abs() <= 1e-8 * sizes.abs().max()).nonzero().reshape(-1)[:8]
    return [torch.zeros_like(centre).index_put((places,), vectors[:, k]) for k in small.tolist()]


def _others(layout: Layout, suspects: set[int], values: LogDensities) -> list[Line]:
    """The coordinates with a proper prior, the first of every latent before others; none where that is dear."""
    if not values.batched:
        return []
    reach = distances(points=3)
    afford = min(_MOST_LINES, MOST_NUMBERS // (4 * values.numbers * reach.numel()))
    first = [site.start for site in layout.latents]
    order = dict.fromkeys(index for index in (*first, *range(layout.size)) if index not in suspects)
    chosen = list(order)[:afford]
    return [Line(_unit(layout.size, [index]), element_at(layout, index), False, reach) for index in chosen]


def _unit(size: int, places: Sequence[int]) -> Tensor:
    return torch.zeros(size, dtype=torch.float64).index_fill(0, torch.tensor(list(places)), 1.0)


def element_at(layout: Layout, index: int) -> str:
    """The name of the element at a coordinate; of the latent, where its elements have no coordinates of their own."""
    site = next(site for site in layout.latents if site.start <= index < site.start + site.size)
    if site.shape != site.unconstrained_shape:
        return site.name
    return element_names(site.name, tuple(site.shape))[index - site.start]


def _message(line: Line, density: Density, values: LogDensities, centre: Tensor) -> str:
    """The sentence that refuses the model: which latent, which way, how high, and what to do."""
    distance = float(line.reach[0, 0])
    here = float(values(centre[None])[0])
    ends = values(torch.stack([centre + sign * distance * line.direction for sign in (1.0, -1.0)]))
    sign = 1.0 if float(ends.nan_to_num(-math.inf)[0]) >= float(ends.nan_to_num(-math.inf)[1]) else -1.0
    world = values.world(values.row(centre + sign * distance * line.direction))
    index = int((line.direction != 0).nonzero()[0])
    site = next(site for site in density.layout.latents if site.start <= index < site.start + site.size)
    value = world[site.variable].reshape(-1)
    element = index - site.start if site.shape == site.unconstrained_shape else 0
    kind = type(world.get_variable(site.variable).distribution).__name__
    end = float(ends[0 if sign > 0 else 1])
    together = " together" if "," in line.name or " and " in line.name else ""
    return (
        f"the posterior is improper: the log density does not fall off far out along {line.name}{together} "
        f"(it is {here:.6g} near the prior's median and {end:.6g} where {site.name} is "
        f"{float(value[element]):.3g}), so no guide can approximate it; give {site.name} a prior that is normalised "
        f"over all of its values instead of its {kind}, such as Normal or HalfNormal with a large scale, give values "
        "that repeat a support of one period, or observe data that identify it"
    )
