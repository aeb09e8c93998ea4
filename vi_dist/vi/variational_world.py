"""A world whose latents take their values from guides."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Self

from torch import Tensor
from torch.distributions import Distribution

from vi_dist.errors import ModelError
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.initialize import InitializeFn, init_from_prior
from vi_dist.model.rv_dict import RVDict
from vi_dist.model.support import unconstrained_shape
from vi_dist.model.variable import Variable
from vi_dist.model.world import World
from vi_dist.vi.bijection import bijection
from vi_dist.vi.guide_map import GuideMap, Query
from vi_dist.vi.marginal import marginal


@dataclass
class Part(Variable):
    """A latent inside a joint guide: its value, and what the map from its coordinates adds to the density.

    Attributes:
        distribution: the model's, given the parents' values; the guide's is `get_guide_distribution`.
        log_jacobian: log |det| of the map from the coordinates to the value.
    """

    log_jacobian: Tensor = field(kw_only=True)

    @property
    def log_prob(self) -> Tensor:
        """Minus `log_jacobian`: added to the joint guide's density it gives the density of the values."""
        return -self.log_jacobian


class VariationalWorld(World):
    """A `World` in which a guided variable takes its value from its guide.

    The guide stands in for the query: the graph holds the guide's node, and asking for either gives it. Latents that
    are jointly guided keep nodes of their own beside the joint guide's. An observed variable stays observed.

    Args:
        observations: values of the observed variables.
        initialize_fn: draws a guide's value from its distribution, and that of a latent without guide.
        params: values of the params; a param that is missing is initialised and added to this mapping.
        queries_to_guides: which guide stands for which query, or tuple of queries; see `GuideMap`.
    """

    def __init__(
        self,
        observations: RVDict | None = None,
        initialize_fn: InitializeFn = init_from_prior,
        params: MutableMapping[RVIdentifier, Tensor] | None = None,
        queries_to_guides: Mapping[Query, RVIdentifier] | None = None,
    ) -> None:
        super().__init__(observations, initialize_fn, params)
        self.queries_to_guides = GuideMap.of(queries_to_guides)

    def set_params(self, params: MutableMapping[RVIdentifier, Tensor]) -> None:
        """Take params from this mapping from now on; what is instantiated stays as it is."""
        self.params = params

    def get_guide_distribution(self, rv: RVIdentifier) -> Distribution:
        """The guide of a query at this world's params and values, in the query's own space.

        Inside a joint guide this is the query's marginal. Raises `ModelError` for a variable without a guide.
        """
        guide = self.queries_to_guides.guide_of(rv)
        if guide is None:
            known = ", ".join(map(str, self.queries_to_guides.queries)) or "none"
            raise ModelError(f"{rv} has no guide; guided are: {known}", key="guide")
        joint = self._instantiated(guide).distribution
        if rv not in self.queries_to_guides.groups:
            return joint
        model = self._instantiated(rv).distribution
        transform = bijection(rv, model)
        span = self.queries_to_guides.span(rv, self)
        return marginal(joint, span, unconstrained_shape(model, transform), transform)

    def update_graph(self, node: RVIdentifier) -> Tensor:
        """The value of a node, from its guide where there is one."""
        return super().update_graph(self._resolve(node))

    def replace(self, values: Mapping[RVIdentifier, Tensor]) -> Self:
        """As `World.replace`. Raises `ModelError` where joint guides tie the values of several latents together."""
        if self.queries_to_guides.groups:
            raise ModelError(
                "values of latents under a joint guide cannot be replaced one by one; draw a new world"
            )
        return super().replace(values)

    def _resolve(self, node: RVIdentifier) -> RVIdentifier:
        if node in self.observations or node in self.queries_to_guides.groups:
            return node
        return self.queries_to_guides.guide_of(node) or node

    def _make_variable(self, node: RVIdentifier) -> Variable:
        if node in self.observations or node not in self.queries_to_guides.groups:
            return super()._make_variable(node)
        # The model's own function says which support the coordinates map to, given the other latents' values.
        distribution, parents = self._run(node)
        guide = self.queries_to_guides[self.queries_to_guides.groups[node]]
        joint = self._instantiated(guide)
        joint.children.add(node)
        transform = bijection(node, distribution)
        span = self.queries_to_guides.span(node, self)
        coordinates = joint.value[span].reshape(unconstrained_shape(distribution, transform))
        value = transform(coordinates)
        log_jacobian = transform.log_abs_det_jacobian(coordinates, value).sum()
        return Part(value, distribution, parents | {guide}, log_jacobian=log_jacobian)

    def _improbable(self) -> list[RVIdentifier]:
        # Drawing again until the density is finite would sample from a truncated guide, not from the guide.
        return [] if self.queries_to_guides else super()._improbable()
