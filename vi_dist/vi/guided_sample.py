"""One Monte-Carlo sample of the interactive engine: guides drawn, then model and guides evaluated at the draw."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from vi_dist.errors import ModelError
from vi_dist.model.delta import Delta
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.rv_dict import RVDict
from vi_dist.model.variable import Variable
from vi_dist.model.world import World
from vi_dist.vi.enumeration import MOST_COMBINATIONS, Fork, values_of
from vi_dist.vi.guide_map import GuideMap
from vi_dist.vi.variational_world import VariationalWorld

Params = MutableMapping[RVIdentifier, Tensor]


How = Literal["path", "score", "mixed", "enumerated"]
"""How guides are drawn: by ``rsample``; by ``sample``; by ``rsample`` where there is one; the same, the others all of
their values in turn."""


class LeafParams(Params):
    """A view of params in which each is a leaf of its own, so that one role's gradient can be taken alone.

    Attributes:
        used: the leaves that were asked for.
    """

    def __init__(self, params: Params) -> None:
        self._params = params
        self.used: dict[RVIdentifier, Tensor] = {}

    def __getitem__(self, key: RVIdentifier) -> Tensor:
        if key not in self.used:
            param = self._params[key]
            self.used[key] = param.detach().requires_grad_(param.requires_grad)
        return self.used[key]

    def __setitem__(self, key: RVIdentifier, value: Tensor) -> None:
        self._params[key] = value

    def __delitem__(self, key: RVIdentifier) -> None:
        del self._params[key]

    def __iter__(self) -> Iterator[RVIdentifier]:
        return iter(self._params)

    def __len__(self) -> int:
        return len(self._params)


class GuideWorld(VariationalWorld):
    """The guides alone: observed variables are known values here, and their likelihood is not evaluated.

    Args:
        how: guides are drawn.
    """

    def __init__(self, observations: RVDict, params: Params, guides: GuideMap, how: How) -> None:
        super().__init__(observations, params=params, queries_to_guides=guides)
        self._how = how

    def _make_variable(self, node: RVIdentifier) -> Variable:
        if node in self.observations and node not in self.queries_to_guides.guides:
            return Variable(self.observations[node], Delta(self.observations[node]))
        return super()._make_variable(node)

    def _initial_value(self, node: RVIdentifier, distribution: Distribution) -> Tensor:
        if node not in self.queries_to_guides.guides:
            raise _unguided(node)
        if self._how == "score" or (self._how == "mixed" and not distribution.has_rsample):
            return distribution.sample()
        if self._how == "enumerated" and not distribution.has_rsample:
            raise Fork(node, values_of(node, distribution))
        if not distribution.has_rsample:
            raise ModelError(
                f"the guide {node} is a {type(distribution).__name__}, whose draws carry no gradient (no rsample); use "
                "monte_carlo_approximate_mixed, or _sf for all guides",
                key="estimator",
            )
        return distribution.rsample()


class ModelWorld(World):
    """The model at given values of all its latents; any other latent is an error that names it."""

    def _initial_value(self, node: RVIdentifier, distribution: Distribution) -> Tensor:
        raise _unguided(node)


@dataclass(frozen=True)
class Draw:
    """One draw from the guides, and guides and model instantiated at it.

    Attributes:
        drawn: the guides' values, differentiable in the params.
        leaves: the same values as leaves, at which the two worlds stand.
        guide_world: the guides, given their values.
        model_world: the model, given all latents and observations.
    """

    drawn: tuple[Tensor, ...]
    leaves: tuple[Tensor, ...]
    guide_world: GuideWorld
    model_world: ModelWorld


@dataclass(frozen=True)
class Sampler:
    """Draws from the guides of a model and evaluates both.

    Attributes:
        observations: observed values.
        guides: the guides of all latents.
        params: all params; new ones are added.
        guide_leaves: the params in their role in guides.
        model_leaves: the params in their role in the model.
        scale: what the observations, and the prior and entropy of `local` latents, are multiplied by.
        local: latents that belong to rows of the data.
    """

    observations: RVDict
    guides: GuideMap
    params: Params
    guide_leaves: LeafParams
    model_leaves: LeafParams
    scale: float = 1.0
    local: tuple[RVIdentifier, ...] = ()

    def combinations(self) -> list[Draw]:
        """A draw for every combination of values of the guides without ``rsample``, the others drawn anew in each.

        Raises `ModelError` for too many combinations, and for a guide whose values cannot be listed.
        """
        found: list[Draw] = []
        open_: list[RVDict] = [{}]
        while open_:
            fixed = open_.pop()
            try:
                found.append(self.draw("enumerated", fixed))
            except Fork as fork:
                open_ += [{**fixed, fork.node: value} for value in reversed(fork.values)]
            if len(found) + len(open_) > MOST_COMBINATIONS:
                raise ModelError(
                    f"the discrete guides have more than {MOST_COMBINATIONS} combinations of values; use "
                    "monte_carlo_approximate_mixed",
                    key="guide",
                )
        return found

    def draw(self, how: How, fixed: RVDict | None = None) -> Draw:
        """One draw, in which some guides may have fixed values.

        Raises `ModelError` for a latent without guide and a guide that cannot be drawn this way.
        """
        known = {**self.observations, **(fixed or {})}
        drawing = GuideWorld(known, self.params, self.guides, how)
        for query in self.guides.queries:
            drawing.call(query)
        drawn = tuple(drawing[guide] for guide in self.guides.guides)
        leaves = tuple(value.detach().requires_grad_(value.requires_grad) for value in drawn)
        given = {**self.observations, **dict(zip(self.guides.guides, leaves, strict=True))}
        guide_world = GuideWorld(given, self.guide_leaves, self.guides, how)
        values = {query: guide_world.call(query) for query in self.guides.queries}
        model_world = ModelWorld({**values, **self.observations}, params=self.model_leaves)
        for node in (*self.guides.queries, *self.observations):
            model_world.call(node)
        return Draw(drawn, leaves, guide_world, model_world)

    def log_densities(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """log p and log q of a draw, scalars, with what belongs to rows scaled up to the whole data.

        The Jacobians of jointly guided latents belong to log p, the density of the coordinates that q is a density of.
        """
        far, near = (
            [q for q in self.guides.queries if (q in self.local) == local] for local in (False, True)
        )
        log_p, log_q = self._log_latents(draw, far)
        rows_p = draw.model_world.log_prob(self.observations.keys())
        if not near:
            return log_p + self.scale * rows_p, log_q
        near_p, near_q = self._log_latents(draw, near)
        return log_p + self.scale * (near_p + rows_p), log_q + self.scale * near_q

    def log_measure(self, draw: Draw, how: How) -> Tensor:
        """Log density of a draw, a scalar, under the guides drawn without a gradient; nothing is scaled up."""
        total = torch.zeros(())
        for guide in self.guides.guides:
            variable = draw.guide_world.get_variable(guide)
            if how == "score" or not variable.distribution.has_rsample:
                total = total + variable.log_prob.sum()
        return total

    def _log_latents(self, draw: Draw, queries: list[RVIdentifier]) -> tuple[Tensor, Tensor]:
        """Log prior, with Jacobians, and log guide of some latents."""
        joint = [query for query in queries if query in self.guides.groups]
        log_p = draw.model_world.log_prob(queries)
        if joint:
            log_p = log_p - draw.guide_world.log_prob(joint)
        return log_p, draw.guide_world.log_prob({self._guide(query) for query in queries})

    def _guide(self, query: RVIdentifier) -> RVIdentifier:
        guide = self.guides.guide_of(query)
        assert guide is not None
        return guide


def _unguided(node: RVIdentifier) -> ModelError:
    return ModelError(
        f"{node} is neither observed nor guided; give it a guide in queries_to_guides (or list it among the queries "
        "of an AutoGuideVI)",
        key="guide",
    )
