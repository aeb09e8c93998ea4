"""A model as a density over its flat unconstrained coordinates: one sample, run in a World."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from vi_dist.vi.summed_out import CURE, SummedOut

# Mixed values of discrete latents at which a sum over elements is compared with the model itself.
_MIXED = 3


class FlatWorld(World):
    """A World whose latents and params take their values from one flat vector `(D,)`, discrete ones from `discrete`.

    The log determinants of the maps to the model's space are kept in `log_jacobians`.
    """

    def __init__(
        self,
        model: Model,
        layout: Layout,
        flat: Tensor,
        discrete: Mapping[RVIdentifier, Tensor] | None = None,
    ) -> None:
        super().__init__(model.observations)
        self._flat, self._discrete = flat, discrete or {}
        self._sites = {site.variable: site for site in (*layout.latents, *layout.params, *layout.local)}
        self.log_jacobians: dict[RVIdentifier, Tensor] = {}

    def _initial_value(self, node: RVIdentifier, distribution: Distribution) -> Tensor:
        if node in self._discrete:
            return self._discrete[node]
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
        if self.layout.summed_out is None:
            total = flat.new_zeros(())
            for log_prob in self._log_probs(self._run(flat, {})):
                total = total + log_prob.sum()
            return total
        each, rest = self._of_each_value(flat, self.layout.summed_out)
        return torch.logsumexp(each, 0).sum() + rest[0]

    def constrain(self, flat: Tensor) -> dict[str, Tensor]:
        """The values of all queries, functionals included, in the model's own space, at flat `(D,)`."""
        world = FlatWorld(self.model, self.layout, flat, self.discrete(flat))
        with world:
            return {str(query): torch.as_tensor(world.call(query)) for query in self.model.queries}

    def discrete(self, flat: Tensor) -> dict[RVIdentifier, Tensor]:
        """Values of the discrete latents, drawn from their distribution given all else at flat `(D,)`."""
        summed_out = self.layout.summed_out
        return {} if summed_out is None else summed_out.pick(self._of_each_value(flat, summed_out)[0], flat)

    def check_elements(self) -> None:
        """Refuse discrete latents that are summed element by element, where elements do not act one by one.

        Compared with the model's own log density at some mixed values, at two points. Raises `ModelError`.
        """
        summed_out = self.layout.summed_out
        if summed_out is None or not summed_out.shape:
            return
        for shift in (0.0, 0.3):
            flat = self.layout.start + shift
            each, rest = self._of_each_value(flat, summed_out)
            generator = torch.Generator().manual_seed(0)
            for _ in range(_MIXED):
                chosen = torch.randint(len(each), summed_out.shape, generator=generator).to(each.device)
                mixed = summed_out.take(chosen)
                plain = sum(log_prob.sum() for log_prob in self._log_probs(self._run(flat, mixed)))
                summed = torch.gather(each, 0, chosen[None]).sum() + rest[0]
                same = torch.allclose(summed, torch.as_tensor(plain), rtol=1e-3, atol=1e-3, equal_nan=True)
                if not same or not torch.allclose(rest, rest[:1].expand_as(rest), rtol=1e-3, equal_nan=True):
                    raise ModelError(
                        f"the elements of {', '.join(map(str, summed_out.nodes))} have too many combinations of values "
                        "to sum over all, and do not act one by one: a density must be a sum over the elements, in "
                        f"their order, of what each alone says; {CURE}",
                        key="queries",
                    )

    def _run(self, flat: Tensor, discrete: Mapping[RVIdentifier, Tensor]) -> FlatWorld:
        world = FlatWorld(self.model, self.layout, flat, discrete)
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

    def _log_probs(self, world: FlatWorld) -> Iterator[Tensor]:
        """The terms of the log density: of every variable, and of the maps to the model's space."""
        counted = self._counted()
        for variable in (*counted, *self.model.observations):
            yield world.get_variable(variable).log_prob
        if self.jacobian:
            for variable in counted:
                if variable in world.log_jacobians:
                    yield world.log_jacobians[variable]

    def _of_each_value(self, flat: Tensor, summed_out: SummedOut) -> tuple[Tensor, Tensor]:
        """Log densities at each of K values of the discrete latents: of elements `(K, *shape)`, and the rest `(K,)`."""
        shape = summed_out.shape

        def one(*values: Tensor) -> tuple[Tensor, Tensor]:
            each, rest = flat.new_zeros(shape), flat.new_zeros(())
            world = self._run(flat, dict(zip(summed_out.nodes, values, strict=True)))
            for log_prob in self._log_probs(world):
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


def _is_identity(transform: Transform) -> bool:
    if isinstance(transform, IndependentTransform):
        return _is_identity(transform.base_transform)
    return transform is identity_transform or transform == identity_transform
