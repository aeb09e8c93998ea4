"""Whether a model has a finite log density and gradient to start from, and on the whole of its prior."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, TransformedDistribution
from torch.distributions.constraints import Constraint, is_dependent

from vi_dist.errors import ModelError
from vi_dist.model.coordinates import goes_through_transforms
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.initialize import init_from_prior
from vi_dist.model.seeding import fixed_seed
from vi_dist.model.support import base_of, bijection_of, constraints_of, support_of
from vi_dist.model.variable import Variable
from vi_dist.model.world import World
from vi_dist.vi.bijection import not_one_to_one
from vi_dist.vi.culprit import at_index, culprit, element, kind_of, latents_at, range_in_words, world_at
from vi_dist.vi.density import Density, FlatWorld
from vi_dist.vi.layout import unconstrained
from vi_dist.vi.noise import SAMPLING, NormalSource

NEAR, WIDE = 8, 24
"""Draws around the start, and from the prior."""
MOST_NUMBERS = 1 << 23
"""Observed numbers whose densities are computed for one check, at most; beyond, fewer draws are looked at."""
TOO_MANY = 0.25
"""The part of the draws around the start without a number as log density from which on a model is refused."""


def check_finite(density: Density, starts: Sequence[Tensor] = ()) -> None:
    """Raise `ModelError` where no guide could take a step; runs in the model's context, in float64.

    Looked at are draws around the start, and draws from the prior. Refused is a model whose log density or gradient
    is not finite at any of them, whose distributions get parameters outside of their range at one of them, or whose log
    density is not a number at more than a quarter of the draws around the start: further out numbers may overflow. The
    message names the variable, the element and its value.

    Args:
        density: of the coordinates, with the Jacobian.
        starts: further coordinates `(d,)` where guides start.
    """
    numbers = max(1, sum(value.numel() for value in density.model.observations.values()))
    afford = max(4, min(NEAR + 2 + WIDE, MOST_NUMBERS // numbers))
    near = [place for start in (*starts, density.layout.loc.double()) for place in _around(density, start)]
    prior = list(_from_prior(density, WIDE))
    rows = [_row(density, place) for place in (*near, *prior)][: len(starts) * (NEAR + 2) + afford]
    # Not at the start itself: a density may have a number there and nowhere else.
    if not any(_is_finite(density, row) for row in rows):
        raise ModelError(culprit(density, rows[0]), key="model")
    _check_supports(density, rows[: len(near)])
    _check_ranges(density, rows)
    first = rows[: min(NEAR, len(rows))]
    without = [row for row in first if math.isnan(_value(density, row))]
    if len(without) > TOO_MANY * len(first):
        reason = culprit(density, without[0])
        raise ModelError(f"at {len(without)} of {len(first)} draws around the start {reason}", key="model")


def _around(density: Density, start: Tensor) -> Iterator[Tensor]:
    """Coordinates `(d,)` around a start, as guides draw them and further out."""
    source = NormalSource(density.layout.noise, [0], torch.float64)
    draws = source(SAMPLING, torch.zeros(1, 1), NEAR)[0, 0]
    for number, draw in enumerate(draws):
        yield start.double() + (0.1 if 2 * number < NEAR else 0.5) * draw
    for step in (-2.0, 2.0):
        yield start.double() + step


def _from_prior(density: Density, count: int) -> Iterator[Tensor]:
    """Coordinates `(d,)` of draws from the prior; none where it cannot be drawn from."""
    layout = density.layout
    with fixed_seed(), torch.no_grad():
        for _ in range(count):
            world = World(density.model.observations, init_from_prior)
            try:
                for site in layout.latents:
                    world.call(site.variable)
                nodes = [world.get_variable(site.variable) for site in layout.latents]
                parts = [
                    unconstrained(site.variable, node.distribution, node.value).reshape(-1)
                    for site, node in zip(layout.latents, nodes, strict=True)
                ]
            except Exception:  # a prior that cannot be drawn from, or a model that raises at some values
                return
            yield torch.cat(parts).double()


def _row(density: Density, place: Tensor) -> Tensor:
    return torch.cat((place, density.layout.eta.double(), density.layout.local_loc.double()))


def _is_finite(density: Density, row: Tensor) -> bool:
    """Whether the log density and its gradient are."""
    try:
        with torch.enable_grad():
            leaf = row.clone().requires_grad_()
            value = density(leaf)
            if not bool(value.isfinite()):
                return False
            if not value.requires_grad:
                return True
            (slope,) = torch.autograd.grad(value, leaf)
    except Exception:  # as in `_world`
        return False
    return bool(slope.isfinite().all())


def _value(density: Density, row: Tensor) -> float:
    """The log density; minus infinity where the model raises, which it says itself."""
    try:
        with torch.no_grad():
            return float(density(row))
    except Exception:  # as in `_world`
        return -math.inf


def _check_supports(density: Density, rows: Sequence[Tensor]) -> None:
    """Refuse a latent whose density is minus infinity or no number inside of its support."""
    for row in rows:
        if (world := _world(density, row)) is None:
            continue
        for site in density.layout.latents:
            _check_one_to_one(site.variable, world.get_variable(site.variable), site.take(row))
            _check_support(site.variable, world.get_variable(site.variable))


def _world(density: Density, row: Tensor) -> FlatWorld | None:
    """The model at a row, or None where its Python raises."""
    try:
        with torch.no_grad():
            return world_at(density, row)
    except Exception:  # a model can raise as it likes at values that no guide may ever draw
        return None


def _check_one_to_one(node: RVIdentifier, variable: Variable, coordinates: Tensor) -> None:
    """Refuse a latent of which two coordinates have one value, as squares of a number and of its negative do."""
    if not goes_through_transforms(variable.distribution):
        return
    transform = bijection_of(variable.distribution)
    back = transform.inv(variable.value)
    # Loosely: what is lost where values are large beside their spread is no sign of it.
    if not bool(back.isfinite().all()) or torch.allclose(back, coordinates, rtol=0.01, atol=0.01):
        return
    base = base_of(variable.distribution)
    assert isinstance(base, TransformedDistribution), "it goes through transforms"
    raise not_one_to_one(node, base, ", ".join(type(part).__name__ for part in base.transforms))


def _check_support(node: RVIdentifier, variable: Variable) -> None:
    held = [value for value in vars(base_of(variable.distribution)).values() if isinstance(value, Tensor)]
    numbers = [value for value in (variable.value, *held) if value.is_floating_point()]
    if not all(bool(value.isfinite().all()) for value in numbers):
        return  # what it is computed from is at fault
    bad = variable.log_prob.isnan() | (variable.log_prob == -math.inf)
    if not bool(bad.any()):
        return
    raise ModelError(
        f"{element(node, variable, bad.nonzero()[0].tolist())} has no density under its {kind_of(variable)}, whose "
        f"support ({support_of(variable.distribution)}) has that value; state the support that it has a density on, "
        "for example constraints.greater_than(0.0)",
        key="model",
    )


def _check_ranges(density: Density, rows: Sequence[Tensor]) -> None:
    """Refuse a model one of whose distributions gets a finite parameter outside of its range at one of the rows."""
    for row in rows:
        if (world := _world(density, row)) is None:
            continue
        for node in world:
            if (wrong := _out_of_range(world.get_variable(node).distribution)) is None:
                continue
            name, index, number, constraint = wrong
            kind = kind_of(world.get_variable(node))
            raise ModelError(
                f"{node}'s {kind} gets {name} = {number:.6g}{at_index(index)} at a draw of the prior "
                f"({latents_at(density, world)}), and {name} must be {range_in_words(constraint)}: map what it is "
                "computed from there, for example by .exp() or torch.sigmoid, or give it a prior that has no other "
                "values",
                key="model",
            )


def _out_of_range(distribution: Distribution) -> tuple[str, list[int], float, Constraint] | None:
    """The first finite parameter that is not in its range, by more than rounding: name, index, number and range."""
    base = base_of(distribution)
    for name, constraint in constraints_of(base).items():
        if is_dependent(constraint) or constraint.is_discrete or constraint.event_dim:
            continue
        value = vars(base).get(name)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        margin = 1e-6 * (1 + value.abs())
        outside = ~(constraint.check(value - margin) | constraint.check(value + margin)) & value.isfinite()
        if bool(outside.any()):
            index = outside.nonzero()[0].tolist()
            return name, index, float(value[tuple(index)]), constraint
    return None
