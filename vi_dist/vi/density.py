"""A model as a density over its flat unconstrained coordinates: one sample, run in a World."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, biject_to
from torch.distributions.transforms import IndependentTransform, Transform, identity_transform

from vi_dist.errors import ModelError
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.model import Model
from vi_dist.model.world import World
from vi_dist.vi.layout import Layout, Site


class FlatWorld(World):
    """A World whose latents and params take their values from one flat vector `(D,)`.

    The log determinants of the maps to the model's space are kept in `log_jacobians`.
    """

    def __init__(self, model: Model, layout: Layout, flat: Tensor) -> None:
        super().__init__(model.observations)
        self._flat = flat
        self._sites = {site.variable: site for site in (*layout.latents, *layout.params, *layout.local)}
        self.log_jacobians: dict[RVIdentifier, Tensor] = {}

    def _initial_value(self, node: RVIdentifier, distribution: Distribution) -> Tensor:
        site = self._site(node)
        if site is None:
            raise ModelError(
                f"{node} appeared after the model was laid out: which latents exist must not depend on values",
                key="queries",
            )
        transform = biject_to(distribution.support)
        coordinates = site.take(self._flat)
        value = transform(coordinates)
        if not _is_identity(transform):
            self.log_jacobians[node] = transform.log_abs_det_jacobian(coordinates, value).sum()
        return value

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
        world = FlatWorld(self.model, self.layout, flat)
        counted = [
            site.variable for site in (*(self.layout.latents if self.owner else ()), *self.layout.local)
        ]
        with world:
            for variable in (
                *(site.variable for site in self.layout.latents),
                *counted,
                *self.model.observations,
            ):
                world.call(variable)
        total = flat.new_zeros(())
        for variable in (*counted, *self.model.observations):
            total = total + world.get_variable(variable).log_prob.sum()
        if self.jacobian:
            for variable in counted:
                if variable in world.log_jacobians:
                    total = total + world.log_jacobians[variable]
        return total

    def constrain(self, flat: Tensor) -> dict[str, Tensor]:
        """The values of all queries, functionals included, in the model's own space, at flat `(D,)`."""
        world = FlatWorld(self.model, self.layout, flat)
        with world:
            return {str(query): torch.as_tensor(world.call(query)) for query in self.model.queries}


def _is_identity(transform: Transform) -> bool:
    if isinstance(transform, IndependentTransform):
        return _is_identity(transform.base_transform)
    return transform is identity_transform or transform == identity_transform
