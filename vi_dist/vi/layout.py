"""Where every latent of a model stands in one flat vector of unconstrained coordinates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions import Distribution

from vi_dist.errors import ModelError
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.limits import at_end, has_limit
from vi_dist.model.model import Model
from vi_dist.model.prior_median import prior_median
from vi_dist.model.support import is_discrete
from vi_dist.model.variable import Variable
from vi_dist.model.world import World
from vi_dist.vi.bijection import bijection
from vi_dist.vi.noise import NoiseSite, NoiseSpace
from vi_dist.vi.summed_out import SummedOut, sum_out


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
    """All latents of a model, in order of first appearance, then its own params, then the latents of a shard's rows.

    Attributes:
        latents: one site per latent; together they take coordinates 0..size-1.
        params: one site per `@param` of the model, from coordinate `size` on.
        loc: unconstrained coordinates `(size,)` near the prior's median, where guides start.
        eta: initial values of the model's params, flat.
        local: one site per latent that belongs to rows, behind the params; none unless the model is sharded.
        local_loc: their coordinates near the prior's median, flat.
        summed_out: the discrete latents, which have no coordinates: densities sum over their values.
        at_limits: names of the observed variables whose density is a limit, as of a count of 0 at a rate of 0.
    """

    latents: tuple[Site, ...]
    params: tuple[Site, ...]
    loc: Tensor = field(compare=False, repr=False)
    eta: Tensor = field(compare=False, repr=False)
    local: tuple[Site, ...] = ()
    local_loc: Tensor = field(default_factory=lambda: torch.zeros(0), compare=False, repr=False)
    summed_out: SummedOut | None = field(default=None, compare=False, repr=False)
    at_limits: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    @property
    def size(self) -> int:
        """Number of unconstrained latent coordinates d, without local ones."""
        return self.loc.shape[0]

    @property
    def start(self) -> Tensor:
        """The flat vector `(D,)` of all coordinates and params where guides start."""
        return torch.cat((self.loc, self.eta, self.local_loc.to(self.loc)))

    @property
    def noise(self) -> NoiseSpace:
        """One normal per coordinate, keyed by the latent's name."""
        return NoiseSpace(tuple(NoiseSite(site.name, site.size) for site in self.latents))

    def local_noise(self, ids: Tensor) -> NoiseSpace:
        """One normal per local coordinate, keyed by the latent's name and the rows' (or groups') numbers `(n,)`."""
        return NoiseSpace(tuple(NoiseSite(site.name, site.size, ids) for site in self.local))


def make_layout(model: Model, sharded: bool = False) -> Layout:
    """Run the model once at its prior medians and lay its latents out; `sharded` sets the local ones apart.

    Raises `ModelError` for discrete latents of many values, and for any where the model is sharded.
    """
    world = World(model.observations, prior_median)
    with world:
        for variable in (*model.queries, *model.observations):
            world.call(variable)
    all_latents = {variable: world.get_variable(variable) for variable in world.latent_nodes}
    discrete = {variable: node for variable, node in all_latents.items() if is_discrete(node.distribution)}
    if discrete and sharded:
        raise ModelError(
            f"{', '.join(map(str, discrete))}: discrete latents are not summed out of shards; fit without shards, or "
            "sum them out of the model by hand",
            key="shards",
        )
    nodes = {variable: node for variable, node in all_latents.items() if variable not in discrete}
    apart = set(model.local) if sharded else set()
    latents, loc = _sites({v: _coordinates(v, n) for v, n in nodes.items() if v not in apart}, 0)
    if not latents:
        if discrete:
            raise ModelError(
                f"{', '.join(map(str, discrete))}: guides are of continuous latents, and all of this model's are "
                "discrete; use VariationalInfer with monte_carlo_approximate_mixed or _enumerated",
                key="guide",
            )
        raise ModelError("the model has no latent variable: nothing to approximate", key="queries")
    values = {variable: (value.shape, value.detach()) for variable, value in world.params.items()}
    params, eta = _sites(values, loc.shape[0])
    mine = {v: _coordinates(v, n) for v, n in nodes.items() if v in apart}
    local, local_loc = _sites(mine, loc.shape[0] + eta.shape[0])
    summed_out = sum_out(discrete) if discrete else None
    at_limits = frozenset(str(node) for node in model.observations if _is_at_limits(world.get_variable(node)))
    return Layout(latents, params, loc, eta.to(loc), local, local_loc.to(loc), summed_out, at_limits)


def _is_at_limits(observed: Variable) -> bool:
    """Whether some elements have parameters at the end of their range, and all of these a limit there."""
    ends = at_end(observed.distribution)
    if not bool(ends.any()):
        return False
    return bool((~ends | has_limit(observed.distribution, observed.value)).all())


def _coordinates(variable: RVIdentifier, node: Variable) -> tuple[torch.Size, Tensor]:
    """A latent's shape and its value's unconstrained coordinates."""
    return node.value.shape, unconstrained(variable, node.distribution, node.value).detach()


def _sites(
    values: Mapping[RVIdentifier, tuple[torch.Size, Tensor]], start: int
) -> tuple[tuple[Site, ...], Tensor]:
    """Sites from coordinate `start` on, and their coordinates as one flat vector."""
    sites = []
    for variable, (shape, coordinates) in values.items():
        sites.append(Site(variable, shape, coordinates.shape, start))
        start += coordinates.numel()
    flats = [coordinates.reshape(-1) for _, coordinates in values.values()]
    return tuple(sites), torch.cat(flats) if flats else torch.zeros(0)


def unconstrained(variable: RVIdentifier, distribution: Distribution, value: Tensor) -> Tensor:
    """The coordinates of a latent's value. Raises `ModelError` for a distribution that has no continuous ones."""
    coordinates: Tensor = bijection(variable, distribution).inv(value)
    return coordinates


def element_names(name: str, shape: tuple[int, ...]) -> list[str]:
    """Names of a value's elements, 0-based and row-major.

    >>> element_names("beta", (2,)), element_names("mu", ()), element_names("L", (1, 2))
    (['beta[0]', 'beta[1]'], ['mu'], ['L[0,0]', 'L[0,1]'])
    """
    if not shape:
        return [name]
    indices: Iterator[tuple[int, ...]] = itertools.product(*map(range, shape))
    return [f"{name}[{','.join(map(str, index))}]" for index in indices]
