"""Which guide stands for which latents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from vi_dist.errors import ModelError
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.prior_median import prior_median
from vi_dist.model.support import unconstrained_shape
from vi_dist.model.world import World
from vi_dist.vi.bijection import bijection

Query = RVIdentifier | tuple[RVIdentifier, ...]


class GuideMap(Mapping[Query, RVIdentifier]):
    """The pairs of queries and guides, checked, with the layout of joint guides.

    A key is one random variable, whose guide lives in the model's own space, or a tuple of them, whose guide is a
    distribution over their concatenated unconstrained coordinates (event dimension 1).

    Attributes:
        queries: every guided random variable, in the order given.
        guides: the guides, one per key, in the order given.
        groups: the tuple that a jointly guided random variable belongs to.

    Raises `ModelError` for a key or guide that is no random variable, and for anything guided twice.
    """

    def __init__(self, queries_to_guides: Mapping[Query, RVIdentifier]) -> None:
        self._guides = dict(queries_to_guides)
        self._of: dict[RVIdentifier, RVIdentifier] = {}
        self.groups: dict[RVIdentifier, tuple[RVIdentifier, ...]] = {}
        self._spans: dict[RVIdentifier, slice] = {}
        for key, guide in self._guides.items():
            members = key if isinstance(key, tuple) else (key,)
            for query in members:
                self._add(query, guide)
            if isinstance(key, tuple):
                self.groups.update(dict.fromkeys(members, members))
        self.queries = tuple(self._of)
        self.guides = tuple(self._guides.values())
        if len(set(self.guides)) < len(self.guides):
            twice = next(guide for guide in self.guides if self.guides.count(guide) > 1)
            raise ModelError(f"the guide {twice} is given to two queries; make one for each", key="guide")

    @classmethod
    def of(cls, queries_to_guides: Mapping[Query, RVIdentifier] | None) -> GuideMap:
        """These pairs as a `GuideMap`; one that is already is returned as it is, layout included."""
        return queries_to_guides if isinstance(queries_to_guides, GuideMap) else cls(queries_to_guides or {})

    def guide_of(self, query: RVIdentifier) -> RVIdentifier | None:
        """The guide that a random variable takes its value from, or None."""
        return self._of.get(query)

    def span(self, query: RVIdentifier, world: World) -> slice:
        """The coordinates of a jointly guided random variable in its guide's vector.

        The sizes come from one run of the model at its prior medians, with the observations and params of `world`.
        """
        if query not in self._spans:
            self._lay_out(self.groups[query], world)
        return self._spans[query]

    def __getitem__(self, key: Query) -> RVIdentifier:
        return self._guides[key]

    def __iter__(self) -> Iterator[Query]:
        return iter(self._guides)

    def __len__(self) -> int:
        return len(self._guides)

    def _add(self, query: RVIdentifier, guide: RVIdentifier) -> None:
        for node, role in ((query, "guided"), (guide, "a guide")):
            if not isinstance(node, RVIdentifier) or not node.is_random_variable:
                raise ModelError(f"{node} is not a random variable, so it cannot be {role}", key="guide")
        if query in self._of:
            raise ModelError(f"{query} has two guides, {self._of[query]} and {guide}; drop one", key="guide")
        self._of[query] = guide

    def _lay_out(self, group: tuple[RVIdentifier, ...], world: World) -> None:
        prior, start = World(world.observations, prior_median, world.params), 0
        with torch.no_grad():
            for query in group:
                prior.call(query)
                distribution = prior.get_variable(query).distribution
                size = unconstrained_shape(distribution, bijection(query, distribution)).numel()
                self._spans[query] = slice(start, start + size)
                start += size
