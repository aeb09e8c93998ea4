"""Variational inference with guides made from the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, TransformedDistribution
from torch.nn.functional import softplus

from vi_dist.errors import ModelError
from vi_dist.model.decorators import param, random_variable
from vi_dist.model.delta import Delta
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.prior_median import prior_median
from vi_dist.model.rv_dict import RVDict
from vi_dist.model.validation import unvalidated
from vi_dist.model.world import World, current_world
from vi_dist.vi.bijection import bijection, is_identity
from vi_dist.vi.guide_map import Query
from vi_dist.vi.guides.family import INITIAL_SCALE, inverse_softplus
from vi_dist.vi.guides.full_rank import FullRank
from vi_dist.vi.initial import initial_location
from vi_dist.vi.noise import NoiseSite, NoiseSpace
from vi_dist.vi.variational_infer import MakeOptimizer, VariationalInfer, default_optimizer


class ModelGuidedVI(VariationalInfer, ABC):
    """`VariationalInfer` that finds the latents by itself and makes guides for them.

    Args:
        queries: random variables and functionals of interest; every latent that they or the observations reach gets
            a guide.
        observations: observed values.
        optimizer, device, local, averaging: as in `VariationalInfer`.

    Raises `ModelError` for a latent that the guides do not fit, and for a model without latents.
    """

    def __init__(
        self,
        queries: Iterable[RVIdentifier],
        observations: RVDict,
        optimizer: MakeOptimizer = default_optimizer,
        device: torch.device | str | None = None,
        local: Sequence[RVIdentifier] = (),
        averaging: float = 0.0,
    ) -> None:
        seen = {node: value if device is None else value.to(device) for node, value in observations.items()}
        world = World(seen, prior_median)
        with unvalidated():
            for node in (*queries, *seen):
                world.call(node)
        latents = {node: world.get_variable(node).distribution for node in world.latent_nodes}
        if not latents:
            raise ModelError(
                "the queries and observations reach no latent: nothing to approximate", key="queries"
            )
        super().__init__(self.make_guides(latents), seen, optimizer, device, local, averaging)

    @abstractmethod
    def make_guides(self, latents: Mapping[RVIdentifier, Distribution]) -> Mapping[Query, RVIdentifier]:
        """Guides for the latents, given with their distributions at the prior's medians."""


class AutoGuideVI(ModelGuidedVI):
    """One guide per latent, made by `get_guide`, which a subclass defines."""

    def make_guides(self, latents: Mapping[RVIdentifier, Distribution]) -> Mapping[Query, RVIdentifier]:
        """One guide per latent, by `get_guide`."""
        return {query: self.get_guide(query, distribution) for query, distribution in latents.items()}

    @staticmethod
    @abstractmethod
    def get_guide(query: RVIdentifier, distrib: Distribution) -> RVIdentifier:
        """A random variable to guide a query, given the query's distribution at the prior's medians."""


class ADVI(AutoGuideVI):
    """Mean-field Gaussian guides in unconstrained space (Kucukelbir et al., arXiv 1603.00788).

    Every guide starts at its prior's median, with standard deviation 0.1 in every coordinate. Its support is that of
    the model's distribution at the values drawn for the other latents.
    """

    @staticmethod
    def get_guide(query: RVIdentifier, distrib: Distribution) -> RVIdentifier:
        """Normal(loc, softplus(raw_scale)), mapped onto the query's support."""
        start = initial_location(distrib, bijection(query, distrib))
        loc = _named(param, f"{query}.loc", _constant(start))
        raw = torch.full_like(start, inverse_softplus(INITIAL_SCALE))
        raw_scale = _named(param, f"{query}.raw_scale", _constant(raw))

        def guide() -> Distribution:
            base = Normal(loc(), softplus(raw_scale()))
            model = _distribution_here(query)
            transform = bijection(query, model)
            if not is_identity(transform):
                return TransformedDistribution(base, [transform])
            return Independent(base, len(model.event_shape)) if model.event_shape else base

        return _named(random_variable, f"guide_{query}", guide)()


class MAP(AutoGuideVI):
    """Maximum a posteriori: the mode of the joint density in the model's own (constrained) space.

    The point of a query is ``world.get_guide_distribution(query).v``. Starts at the prior's medians.
    """

    @staticmethod
    def get_guide(query: RVIdentifier, distrib: Distribution) -> RVIdentifier:
        """A `Delta` at a point of the query's support."""
        start = initial_location(distrib, bijection(query, distrib))
        loc = _named(param, f"{query}.loc", _constant(start))

        def guide() -> Distribution:
            model = _distribution_here(query)
            return Delta(bijection(query, model)(loc()), event_dim=len(model.event_shape))

        return _named(random_variable, f"guide_{query}", guide)()


class FullRankADVI(ModelGuidedVI):
    """One multivariate normal over the unconstrained coordinates of all latents.

    Starts at the prior's medians with standard deviation 0.1 and no correlation.
    """

    def make_guides(self, latents: Mapping[RVIdentifier, Distribution]) -> Mapping[Query, RVIdentifier]:
        """One joint guide over all latents."""
        starts = [initial_location(d, bijection(query, d)).reshape(-1) for query, d in latents.items()]
        family = FullRank(NoiseSpace((NoiseSite("full_rank", sum(map(len, starts))),)))
        leaves = {
            name: _named(param, f"full_rank.{name}", _constant(value))
            for name, value in family.initial(torch.cat(starts)).items()
        }
        guide = _named(
            random_variable,
            "full_rank",
            lambda: family.distribution({name: leaf() for name, leaf in leaves.items()}),
        )
        return {tuple(latents): guide()}


def _named(
    decorator: Callable[[Callable[..., Any]], Callable[..., Any]], name: str, function: Callable[..., Any]
) -> Callable[..., Any]:
    """Decorate a function under a name made at run time."""
    function.__name__ = name
    return decorator(function)


def _constant(value: Tensor) -> Callable[[], Tensor]:
    return lambda: value


def _distribution_here(query: RVIdentifier) -> Distribution:
    """The model's distribution of a query at the current world's values, whose support the guide must follow."""
    world = current_world()
    assert world is not None, "a guide runs inside a world"
    return world.get_distribution(query)
