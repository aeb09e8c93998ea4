"""A model's density with the rows of its data as inputs: an estimate from a batch of what all rows say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vi_dist.errors import ModelError
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.model import Model
from vi_dist.vi.density import FlatWorld
from vi_dist.vi.layout import Layout, Site


class _BatchWorld(FlatWorld):
    """A world of another model of the same build, whose variables are others of the same names."""

    def __init__(self, model: Model, layout: Layout, flat: Tensor) -> None:
        super().__init__(model, layout, flat)
        self._named = {site.name: site for site in self._sites.values()}

    def _site(self, node: RVIdentifier) -> Site | None:
        return self._named.get(str(node))


@dataclass(frozen=True)
class BatchDensity:
    """log p(T(z)) + scale * log p(batch | T(z)), as a function of the flat vector and of the batch's columns.

    The model is built of the batch at every call, which tracing turns into a graph with the columns as inputs.

    Attributes:
        build: makes a model of data; the same latents whatever the rows.
        layout: of the model of all rows.
        names: of the columns, in the order in which they come.
        constants: data that are no rows.
        scale: rows there are, over rows of a batch.
        jacobian: whether log |det dT/dz| is added.
        owner: whether the latents count: of the shards of a model, one owns them.
    """

    build: Callable[[dict[str, Any]], Model]
    layout: Layout
    names: tuple[str, ...]
    constants: Mapping[str, Any]
    scale: float
    jacobian: bool = True
    owner: bool = True

    def __call__(self, flat: Tensor, *columns: Tensor) -> Tensor:
        """The estimate at flat `(D,)` from a batch's columns `(B, ...)`. A scalar."""
        prior, rows = self.parts(flat, *columns)
        return prior + self.scale * rows if self.owner else self.scale * rows

    def parts(self, flat: Tensor, *columns: Tensor) -> tuple[Tensor, Tensor]:
        """The log density of the latents, and the sum of that of the rows, not scaled. Scalars."""
        model = self.build({**self.constants, **dict(zip(self.names, columns, strict=True))})
        world = _BatchWorld(model, self.layout, flat)
        with world:
            for variable in (*model.queries, *model.observations):
                world.call(variable)
        shapes = {site.name: site.shape for site in self.layout.latents}
        prior, rows = flat.new_zeros(()), flat.new_zeros(())
        for variable in world.latent_nodes:
            node = world.get_variable(variable)
            if node.distribution.batch_shape + node.distribution.event_shape != shapes[str(variable)]:
                raise ModelError(
                    f"{variable} has another shape with a batch of the rows than with all of them; batches need "
                    "latents that do not depend on the rows: leave batch_size out",
                    key="batch_size",
                )
            prior = prior + world.log_density(variable, self.jacobian).sum()
            if self.jacobian and variable in world.log_jacobians:
                prior = prior + world.log_jacobians[variable].sum()
        for variable in model.observations:
            rows = rows + world.get_variable(variable).log_prob.sum()
        return prior.to(flat.dtype), rows.to(flat.dtype)
