"""A model as a density over its flat unconstrained coordinates: one sample, run in a World."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from vi_dist.errors import ModelError
from vi_dist.model.coordinates import Point, at_coordinates, goes_through_transforms
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.limits import moved_inside
from vi_dist.model.log_density import log_density
from vi_dist.model.model import Model
from vi_dist.model.support import base_of, bijection_of
from vi_dist.model.variable import Variable
from vi_dist.model.world import World
from vi_dist.vi.bijection import is_identity
from vi_dist.vi.layout import Layout, Site
from vi_dist.vi.summed_out import SummedOut


class FlatWorld(World):
    """A World whose latents and params take their values from one flat vector `(D,)`, discrete ones from `discrete`.

    The log determinants of the maps to the model's space are kept in `log_jacobians`; of a latent whose coordinates go
    through transforms of its distribution, the densities of value and coordinates are kept in `points` instead.
    """

    def __init__(
        self,
        model: Model,
        layout: Layout,
        flat: Tensor,
        discrete: Mapping[RVIdentifier, Tensor] | None = None,
    ) -> None:
        super().__init__(model.observations)
        self._flat, self._discrete, self._at_limits = flat, discrete or {}, layout.at_limits
        self._sites = {site.variable: site for site in (*layout.latents, *layout.params, *layout.local)}
        self.log_jacobians: dict[RVIdentifier, Tensor] = {}
        self.points: dict[RVIdentifier, Point] = {}

    def _initial_value(self, node: RVIdentifier, distribution: Distribution) -> Tensor:
        if node in self._discrete:
            return self._discrete[node]
        site = self._site(node)
        if site is None:
            raise ModelError(
                f"{node} appeared after the model was laid out: which latents exist must not depend on values",
                key="queries",
            )
        transform, coordinates = bijection_of(distribution), site.take(self._flat)
        if goes_through_transforms(distribution):
            self.points[node] = at_coordinates(distribution, coordinates)
            return self.points[node].value
        value: Tensor = transform(coordinates)
        if not is_identity(transform):
            self.log_jacobians[node] = transform.log_abs_det_jacobian(coordinates, value)
        return value

    def log_density(self, node: RVIdentifier, jacobian: bool) -> Tensor:
        """Log density of a node's value or, where that is known as a whole and `jacobian` asks for it, coordinates."""
        if jacobian and node in self.points:
            return self.points[node].log_density
        return self.get_variable(node).log_prob

    def _make_variable(self, node: RVIdentifier) -> Variable:
        variable = super()._make_variable(node)
        if str(node) in self._at_limits:
            variable.distribution = moved_inside(variable.distribution)
        if node in self.points:
            variable.log_prob = self.points[node].log_prob
        return variable

    def _site(self, node: RVIdentifier) -> Site | None:
        return self._sites.get(node)

    def get_param(self, param: RVIdentifier) -> Tensor:
        """The param's slice of the flat vector."""
        site = self._site(param)
        if site is None:
            raise ModelError(f"param {param} appeared after the model was laid out", key="queries")
        return site.take(self._flat)


@dataclass(frozen=True)
class Density:
    """log p(x, T(z)) of a model, as a function of the flat vector of coordinates and params.

    Attributes:
        jacobian: whether log |det dT/dz| is added, which makes it the density of the coordinates themselves.
        owner: whether the latents that are not local count: of the shards of a model, one owns them.
    """

    model: Model
    layout: Layout
    jacobian: bool = True
    owner: bool = True

    def __call__(self, flat: Tensor) -> Tensor:
        """log density at flat `(D,)`: latents' coordinates, then the model's params. A scalar."""
        if self.layout.summed_out is None:
            total = flat.new_zeros(())
            for log_prob in self.log_probs(self.run(flat, {})):
                total = total + log_prob.sum()
            return total.to(flat.dtype)
        each, rest = self.of_each_value(flat, self.layout.summed_out)
        return (torch.logsumexp(each, 0).sum() + rest[0]).to(flat.dtype)

    def constrain(self, flat: Tensor) -> dict[str, Tensor]:
        """The values of all queries, functionals included, in the model's own space, at flat `(D,)`."""
        world = FlatWorld(self.model, self.layout, flat, self.discrete(flat))
        with world:
            return {str(query): torch.as_tensor(world.call(query)) for query in self.model.queries}

    def discrete(self, flat: Tensor) -> dict[RVIdentifier, Tensor]:
        """Values of the discrete latents, drawn from their distribution given all else at flat `(D,)`."""
        summed_out = self.layout.summed_out
        return {} if summed_out is None else summed_out.pick(self.of_each_value(flat, summed_out)[0], flat)

    def run(
        self, flat: Tensor, discrete: Mapping[RVIdentifier, Tensor], kind: type[FlatWorld] = FlatWorld
    ) -> FlatWorld:
        """The model at flat `(D,)` and values of its discrete latents, everything instantiated that counts."""
        world = kind(self.model, self.layout, flat, discrete)
        with world:
            for variable in (
                *(site.variable for site in self.layout.latents),
                *self._counted(),
                *self.model.observations,
            ):
                world.call(variable)
        return world

    def _counted(self) -> list[RVIdentifier]:
        """The latents whose densities count."""
        shared = self.layout.latents if self.owner else ()
        summed_out = self.layout.summed_out
        discrete = () if summed_out is None else summed_out.nodes
        return [*(site.variable for site in (*shared, *self.layout.local)), *discrete]

    def log_probs(self, world: FlatWorld) -> Iterator[Tensor]:
        """The terms of the log density: of every variable, and of the maps to the model's space."""
        counted, summed_out = self._counted(), self.layout.summed_out
        for variable in (*counted, *self.model.observations):
            node = world.get_variable(variable)
            if summed_out is not None and variable in summed_out.nodes:
                # Of each element, where Independent would add them up.
                yield log_density(base_of(node.distribution), node.value)
            else:
                yield world.log_density(variable, self.jacobian)
        if self.jacobian:
            for variable in counted:
                if variable in world.log_jacobians:
                    yield world.log_jacobians[variable]

    def of_each_value(self, flat: Tensor, summed_out: SummedOut) -> tuple[Tensor, Tensor]:
        """Log densities at each of K values of the discrete latents: of elements `(K, *shape)`, and the rest `(K,)`."""
        shape = summed_out.shape

        def one(*values: Tensor) -> tuple[Tensor, Tensor]:
            each, rest = flat.new_zeros(shape), flat.new_zeros(())
            world = self.run(flat, dict(zip(summed_out.nodes, values, strict=True)))
            for log_prob in self.log_probs(world):
                if log_prob.shape[: len(shape)] == shape:
                    each = each + log_prob.reshape(*shape, -1).sum(-1)
                else:
                    rest = rest + log_prob.sum()
            return each, rest

        try:
            each, rest = torch.vmap(one)(*summed_out.values)
        except Exception:  # the model's Python reads a value, or torch has no rule: it runs once for each
            found = [one(*values) for values in summed_out.one_by_one]
            each, rest = (torch.stack(part) for part in zip(*found, strict=True))
        return each, rest
