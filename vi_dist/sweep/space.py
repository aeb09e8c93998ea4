"""From a spec's space to its list of configurations: the whole grid in order, or a seeded random search."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from vi_dist.errors import SpecError
from vi_dist.sweep.catalogue import Catalogue
from vi_dist.sweep.configuration import Choice, Configuration
from vi_dist.sweep.dimension import DIMENSIONS, Dimension, Item, Named, join
from vi_dist.sweep.naming import Draft, named
from vi_dist.sweep.parsing import parse_space
from vi_dist.sweep.points import Point, count, draw, walk
from vi_dist.sweep.spec import SweepSpec
from vi_dist.sweep.values import show

# An entry that neither the space nor the sweep names; numbers have their defaults in DIMENSIONS.
DEFAULT_NAMES: Mapping[str, str] = {
    "guide": "mean_field",
    "divergence": "kl_reverse",
    "estimator": "auto",
    "optimizer": "adam",
    "schedule": "constant",
}
# Redraws of one configuration before a space that can be listed is, and any other is given up.
_REDRAWS_LISTED, _REDRAWS = 50, 1000
_LISTED = 1_000_000


def resolve(spec: SweepSpec, catalogue: Catalogue) -> list[Configuration]:
    """Every configuration of a sweep, distinct, named, and in an order that depends on the spec alone.

    A grid walks its dimensions in their fixed order (`DIMENSIONS`), the seed fastest, and stops after
    `configurations` where that is given. A random search draws each dimension by (spec's seed, draw,
    dimension): the order of keys does not matter, a dimension changes no other's values, and more
    configurations keep the first ones. Two points that resolve to one configuration (``auto`` beside the
    estimator it picks) count once.

    Raises:
        SpecError: a name, argument or combination that the catalogue refuses; more configurations than exist.
    """
    with spec.source.placing():
        sweep_level: dict[str, Dimension] = {
            "optimizer": (spec.optimizer,),
            "schedule": (spec.schedule,),
            "num_samples": (Item(spec.num_samples, "num_samples"),),
            "steps": (Item(spec.steps, "steps"),),
            "seed": (Item(spec.seed, "seed"),),
        }
        space = _Space(_complete({**sweep_level, **spec.space}, catalogue, "space"), catalogue, spec.dtype)
        if spec.search == "grid":
            return named(_grid(space, spec.configurations))
        assert spec.configurations is not None
        return named(_random(space, spec.seed, spec.configurations))


def resolve_one(values: Mapping[str, object], catalogue: Catalogue, dtype: str = "float32") -> Configuration:
    """The one configuration that `values` describe (``{"guide": "full_rank", "steps": 500}``), completed.

    Raises:
        SpecError: as `resolve`, with the dimension's name as key; several values where one belongs.
    """
    parsed = parse_space(values, "") if values else {}
    for name, dimension in parsed.items():
        if count(dimension) != 1:
            raise SpecError(f"one fit has one {name}; several are a sweep", key=name, allowed=("one value",))
    return named(_grid(_Space(_complete(parsed, catalogue, ""), catalogue, dtype), None))[0]


@dataclass(frozen=True)
class _Space:
    """Every dimension with its values, in the fixed order, and what makes configurations of them."""

    dimensions: Mapping[str, Dimension]
    catalogue: Catalogue
    dtype: str

    @property
    def size(self) -> int | None:
        """How many points there are; None for infinitely many."""
        sizes = [count(dimension) for dimension in self.dimensions.values()]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    def walk(self) -> Iterator[Draft]:
        """Every configuration once, in the fixed order."""
        seen: set[Configuration] = set()
        for points in product(*(list(walk(dimension)) for dimension in self.dimensions.values())):
            draft = self._draft(dict(zip(self.dimensions, points, strict=True)))
            if draft.configuration not in seen:
                seen.add(draft.configuration)
                yield draft

    def draw(self, seed: int, number: int) -> Draft:
        """Draw `number` of a random search."""
        return self._draft({name: draw(d, seed, number, name) for name, d in self.dimensions.items()})

    def _draft(self, points: Mapping[str, Point]) -> Draft:
        """A configuration with its defaults completed, its estimator picked, and its combination checked."""
        written = {name: point.value for name, point in points.items() if isinstance(point.value, Choice)}
        full: dict[str, Any] = {name: point.value for name, point in points.items()}
        full |= {name: self.catalogue.complete(name, choice) for name, choice in written.items()}
        try:
            picked = self.catalogue.resolve_estimator(full["guide"], full["divergence"], full["estimator"])
            full["estimator"] = self.catalogue.complete("estimator", picked)
            configuration = Configuration(**full, dtype=self.dtype)
            self.catalogue.check(configuration)
        except SpecError as error:
            at = points.get(error.key or "estimator")
            key = error.key if at is None else at.key
            raise type(error)(error.message, key=key, allowed=error.allowed) from None
        return Draft(configuration, written)


def _complete(dimensions: Mapping[str, Dimension], catalogue: Catalogue, prefix: str) -> dict[str, Dimension]:
    """Every dimension in the fixed order, absent ones at their default, entries checked against tables."""
    complete: dict[str, Dimension] = {}
    for name, argument in DIMENSIONS.items():
        key = join(prefix, name)
        default = Named(DEFAULT_NAMES[name], (), key) if argument is None else Item(argument.default, key)
        dimension = dimensions.get(name, (default,))
        complete[name] = catalogue.fit(name, dimension) if argument is None else dimension
    return complete


def _grid(space: _Space, configurations: int | None) -> list[Draft]:
    """The whole grid, or its first `configurations`."""
    drafts = list(islice(space.walk(), configurations))
    if configurations is not None and len(drafts) < configurations:
        raise _too_many(configurations, len(drafts))
    return drafts


def _random(space: _Space, seed: int, configurations: int) -> list[Draft]:
    """That many different configurations, drawn one after the other."""
    size = space.size
    if size is not None and configurations > size:
        raise _too_many(configurations, size)
    drafts: dict[Configuration, Draft] = {}
    listed = size is not None and size <= _LISTED
    number, redraws, limit = 0, 0, _REDRAWS_LISTED if listed else _REDRAWS
    while len(drafts) < configurations and redraws < limit:
        draft = space.draw(seed, number)
        redraws = redraws + 1 if draft.configuration in drafts else 0
        drafts.setdefault(draft.configuration, draft)
        number += 1
    if len(drafts) < configurations and listed:
        rest = [draft for draft in space.walk() if draft.configuration not in drafts]
        random.Random(f"{seed}/rest").shuffle(rest)
        drafts |= {draft.configuration: draft for draft in rest[: configurations - len(drafts)]}
    if len(drafts) < configurations:
        raise _too_many(configurations, len(drafts))
    return list(drafts.values())


def _too_many(asked: int, there: int) -> SpecError:
    """The error for more configurations than the space holds."""
    cure = "ask for fewer, or add values to the space"
    message = f"{show(asked)} configurations are asked for and the space holds {there}; {cure}"
    return SpecError(
        message, key="configurations", allowed=(f"a whole number, at least 1 and at most {there}",)
    )
