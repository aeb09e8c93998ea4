"""Where every latent of a model stands in one flat vector of unconstrained coordinates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions import Distribution, biject_to

from vi_dist.errors import ModelError
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.model import Model
from vi_dist.model.observed import support_of
from vi_dist.model.prior_median import prior_median
from vi_dist.model.world import World
from vi_dist.vi.noise import NoiseSite, NoiseSpace


@dataclass(frozen=True)
class Site:
    """A latent (or a param of the model): its shape in the model and its slice of the flat vector."""

    variable: RVIdentifier
    shape: torch.Size
    unconstrained_shape: torch.Size
    start: int

    @property
    def name(self) -> str:
        """The name on every wire."""
        return str(self.variable)

    @property
    def size(self) -> int:
        """Number of unconstrained coordinates."""
        return math.prod(self.unconstrained_shape)

    def take(self, flat: Tensor) -> Tensor:
        """This site's coordinates of a flat vector `(D,)`, in their unconstrained shape."""
        return flat[self.start : self.start + self.size].reshape(self.unconstrained_shape)


@dataclass(frozen=True)
class Layout:
    """All latents of a model, in order of first appearance, then the model's own params.

    Attributes:
        latents: one site per latent; together they take coordinates 0..size-1.
        params: one site per `@param` of the model, from coordinate `size` on.
        loc: unconstrained coordinates `(size,)` near the prior's median, where guides start.
        eta: initial values of the model's params, flat.
    """

    latents: tuple[Site, ...]
    params: tuple[Site, ...]
    loc: Tensor = field(compare=False, repr=False)
    eta: Tensor = field(compare=False, repr=False)

    @property
    def size(self) -> int:
        """Number of unconstrained latent coordinates d."""
        return self.loc.shape[0]

    @property
    def noise(self) -> NoiseSpace:
        """One normal per coordinate, keyed by the latent's name."""
        return NoiseSpace(tuple(NoiseSite(site.name, site.size) for site in self.latents))


def make_layout(model: Model) -> Layout:
    """Run the model once at its prior medians and lay its latents out. Raises `ModelError` for discrete latents."""
    world = World(model.observations, prior_median)
    with world:
        for variable in (*model.queries, *model.observations):
            world.call(variable)
    latents, start, locs = [], 0, []
    for variable in world.latent_nodes:
        node = world.get_variable(variable)
        unconstrained = _unconstrain(variable, node.distribution, node.value)
        latents.append(Site(variable, node.value.shape, unconstrained.shape, start))
        start += unconstrained.numel()
        locs.append(unconstrained.reshape(-1))
    if not latents:
        raise ModelError("the model has no latent variable: nothing to approximate", key="queries")
    params, etas = [], []
    for variable, value in world.params.items():
        params.append(Site(variable, value.shape, value.shape, start))
        start += value.numel()
        etas.append(value.detach().reshape(-1))
    loc = torch.cat(locs).detach()
    return Layout(tuple(latents), tuple(params), loc, torch.cat(etas).to(loc) if etas else loc[:0])


def _unconstrain(variable: RVIdentifier, distribution: Distribution, value: Tensor) -> Tensor:
    support = support_of(distribution)
    if support is None:
        raise ModelError(
            f"{variable}'s distribution ({type(distribution).__name__}) states no support: give it one",
            key="queries",
        )
    if support.is_discrete:
        raise ModelError(
            f"{variable} is discrete ({type(distribution).__name__}); the guide families live on continuous "
            "coordinates: sum it out of the model, or give it a guide of its own in VariationalInfer "
            "with monte_carlo_approximate_sf",
            key="guide",
        )
    try:
        return biject_to(support).inv(value)
    except NotImplementedError as error:
        raise ModelError(
            f"{variable} has support {support}, for which torch has no bijection: {error}", key="queries"
        ) from error


def element_names(name: str, shape: tuple[int, ...]) -> list[str]:
    """Names of a value's elements, 0-based and row-major.

    >>> element_names("beta", (2,)), element_names("mu", ()), element_names("L", (1, 2))
    (['beta[0]', 'beta[1]'], ['mu'], ['L[0,0]', 'L[0,1]'])
    """
    if not shape:
        return [name]
    indices: Iterator[tuple[int, ...]] = itertools.product(*map(range, shape))
    return [f"{name}[{','.join(map(str, index))}]" for index in indices]
