"""The log density of a model along lines, as `vi_dist.vi.propriety` looks at it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, TransformedDistribution, constraints

from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.support import base_of, support_of
from vi_dist.vi.culprit import world_at
from vi_dist.vi.density import Density, FlatWorld
from vi_dist.vi.far_out import falls_off, heights
from vi_dist.vi.layout import Layout
from vi_dist.vi.noise import SAMPLING, NormalSource

_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class Line:
    """A direction in the space of coordinates, and the latents that move along it.

    Attributes:
        direction: `(d,)`.
        name: of the latents, for a message.
        strict: see `falls_off`.
        reach: distances `(windows, points)` that are looked at.
    """

    direction: Tensor
    name: str
    strict: bool
    reach: Tensor


class NonCentredWorld(FlatWorld):
    """A `FlatWorld` in which coordinates of latents of a location and a scale are those of (value - loc) / scale.

    A group-level scale that goes to 0 takes its groups along there, while among values the groups stay where they are.
    """

    def _initial_value(self, node: RVIdentifier, distribution: Distribution) -> Tensor:
        site, base = self._site(node), base_of(distribution)
        loc, scale = getattr(base, "loc", None), getattr(base, "scale", None)
        one_by_one = not isinstance(base, TransformedDistribution) and support_of(base) is constraints.real
        if site is None or not one_by_one or not isinstance(loc, Tensor) or not isinstance(scale, Tensor):
            return super()._initial_value(node, distribution)
        coordinates = site.take(self._flat)
        self.log_jacobians[node] = scale.log().expand(coordinates.shape)
        return loc + scale * coordinates


class LogDensities:
    """The log density at rows of coordinates, in batches where the model can be batched.

    Args:
        density: of the coordinates, with the Jacobian.
        non_centred: whether the coordinates are those of `NonCentredWorld`; not of a model with discrete latents.

    Attributes:
        batched: whether rows have been computed together so far.
        numbers: how many numbers the model observes.
    """

    def __init__(self, density: Density, non_centred: bool = False) -> None:
        self._density, self._non_centred = density, non_centred
        self.numbers = max(1, sum(value.numel() for value in density.model.observations.values()))
        self._tail = torch.cat((density.layout.eta, density.layout.local_loc)).double()
        self.batched = True

    def row(self, coordinates: Tensor) -> Tensor:
        """Coordinates `(d,)` with the params and the local latents where they start, `(D,)`."""
        return torch.cat((coordinates, self._tail))

    def world(self, row: Tensor) -> FlatWorld:
        """The model at `(D,)`."""
        return (
            self._density.run(row, {}, NonCentredWorld) if self._non_centred else world_at(self._density, row)
        )

    def one(self, row: Tensor) -> Tensor:
        """The log density at `(D,)`; NaN where a latent's value is not finite."""
        density, world = self._density, self.world(row)
        if density.layout.summed_out is None:
            total = torch.stack([log_prob.sum() for log_prob in density.log_probs(world)]).sum()
        else:
            total = density(row)
        finite = [world[site.variable].isfinite().all() for site in density.layout.latents]
        return torch.where(torch.stack(finite).all(), total, torch.full_like(total, math.nan))

    def __call__(self, coordinates: Tensor) -> Tensor:
        """Log densities `(B,)` at coordinates `(B, d)`, NaN where the model raises."""
        rows = torch.cat((coordinates, self._tail.expand(coordinates.shape[0], -1)), -1)
        with torch.no_grad():
            if self.batched:
                try:
                    size = max(1, _AT_ONCE // self.numbers)
                    return torch.cat([torch.vmap(self.one)(part) for part in rows.split(size)])
                except Exception:  # its Python reads a value, or a factorisation fails for a row
                    self.batched = False
            return torch.stack([self._guarded(row) for row in rows])

    def open_lines(self, centre: Tensor, lines: Sequence[Line]) -> list[Line]:
        """The lines along which the log density does not fall off in both directions."""
        if not lines:
            return []
        rows = [
            centre + sign * line.reach.reshape(-1, 1) * line.direction
            for line in lines
            for sign in (1.0, -1.0)
        ]
        found = iter(self(torch.cat(rows)).split([len(part) for part in rows]))
        open_lines = []
        for line in lines:
            both = torch.stack([next(found).reshape(line.reach.shape) for _ in range(2)], -1)
            if not bool(falls_off(heights(both), line.strict).all()):
                open_lines.append(line)
        return open_lines

    def _guarded(self, row: Tensor) -> Tensor:
        try:
            return self.one(row)
        except Exception:  # a model can raise as it likes at values that no guide may ever draw
            return row.new_full((), math.nan)


def centres_of(layout: Layout, values: LogDensities) -> list[Tensor]:
    """Two points where the log density is finite, or fewer."""
    source = NormalSource(layout.noise, [0], torch.float64)
    draws = source(SAMPLING, torch.zeros(1, 1), 8)[0, 0]
    scales = torch.tensor([0.5] * 4 + [0.1] * 4, dtype=torch.float64)
    rows = torch.cat((layout.loc.double() + scales[:, None] * draws, scales[:, None] * draws))
    found = values(rows)
    return [row for row, value in zip(rows, found, strict=True) if bool(value.isfinite())][:2]
