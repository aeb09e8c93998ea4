"""From a spec's space to its list of configurations: the whole grid in order, or a seeded random search."""

from __future__ import annotations

import math
import random
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice, product
from itertools import count as count_from
from typing import Any

from vi_dist.errors import SpecError
from vi_dist.sweep.catalogue import Catalogue
from vi_dist.sweep.configuration import Choice, Configuration
from vi_dist.sweep.dimension import DIMENSIONS, Dimension, Item, Named, join
from vi_dist.sweep.naming import Draft, named
from vi_dist.sweep.parsing import parse_space
from vi_dist.sweep.points import (
    Chooser,
    Point,
    Uniform,
    by_draw,
    choose,
    corner_count,
    corners,
    count,
    questions,
    walk,
)
from vi_dist.sweep.spec import MOST_CONFIGURATIONS, SweepSpec
from vi_dist.sweep.values import big, show

# An entry that neither the space nor the sweep names; numbers have their defaults in DIMENSIONS.
DEFAULT_NAMES: Mapping[str, str] = {
    "guide": "mean_field",
    "divergence": "kl_reverse",
    "estimator": "auto",
    "optimizer": "adam",
    "schedule": "constant",
    "initialisation": "prior_median",
}
# Redraws of one configuration before a space that can be listed is, and any other is given up.
_REDRAWS_LISTED, _REDRAWS = 50, 1000
_LISTED = MOST_CONFIGURATIONS
# The first points of a Sobol sequence are drawn two to this power at once.
_SOBOL = 6


def resolve(spec: SweepSpec, catalogue: Catalogue) -> list[Configuration]:
    """Every configuration of a sweep, distinct, named, and in an order that depends on the spec alone.

    A grid walks its dimensions in their fixed order (`DIMENSIONS`), the seed fastest, and stops after
    `configurations` where that is given. A random search draws each dimension by (spec's seed, draw,
    dimension): the order of keys does not matter, a dimension changes no other's values, and more
    configurations keep the first ones. A quasi-random one (qmc) walks a scrambled Sobol sequence, which fills the
    space more evenly. Two points that resolve to one configuration (``auto`` beside the estimator it picks) count
    once. A search that learns from results has no such list: see `vi_dist.sweep.search`.

    Raises:
        SpecError: a name, argument or combination that the catalogue refuses; more configurations than exist.
    """
    with spec.source.placing():
        space = Space.of(spec, catalogue)
        if spec.search == "grid":
            return named(_grid(space, spec.configurations))
        assert spec.configurations is not None
        choosers = _sobol(space, spec.seed) if spec.search == "qmc" else _random(spec.seed)
        return named(_drawn(space, choosers, spec.seed, spec.configurations))


def resolve_one(values: Mapping[str, object], catalogue: Catalogue, dtype: str = "float32") -> Configuration:
    """The one configuration that `values` describe (``{"guide": "full_rank", "steps": 500}``), completed.

    Raises:
        SpecError: as `resolve`, with the dimension's name as key; several values where one belongs.
    """
    parsed = parse_space(values, "") if values else {}
    for name, dimension in parsed.items():
        if count(dimension) != 1:
            raise SpecError(f"one fit has one {name}; several are a sweep", key=name, allowed=("one value",))
    return named(_grid(Space(_complete(parsed, catalogue, ""), catalogue, dtype), None))[0]


@dataclass(frozen=True)
class Space:
    """Every dimension with its values, in the fixed order, and what makes configurations of them."""

    dimensions: Mapping[str, Dimension]
    catalogue: Catalogue
    dtype: str

    @classmethod
    def of(cls, spec: SweepSpec, catalogue: Catalogue) -> Space:
        """The space of a spec, whose sweep-level values stand in where it names none."""
        sweep_level: dict[str, Dimension] = {
            "optimizer": (spec.optimizer,),
            "schedule": (spec.schedule,),
            "initialisation": (spec.initialisation,),
            "num_samples": (Item(spec.num_samples, "num_samples"),),
            "steps": (Item(spec.steps, "steps"),),
            "averaging": (Item(spec.averaging, "averaging"),),
            "seed": (Item(spec.seed, "seed"),),
        }
        return cls(_complete({**sweep_level, **spec.space}, catalogue, "space"), catalogue, spec.dtype)

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

    def choose(self, chooser: Chooser) -> Draft:
        """The configuration that a chooser decides on."""
        return self._draft({name: choose(d, chooser, name) for name, d in self.dimensions.items()})

    def questions(self) -> list[str]:
        """Every question that a chooser may be asked."""
        return [name for key, dimension in self.dimensions.items() for name in questions(dimension, key)]

    def corners(self) -> Iterator[Draft]:
        """Configurations that show every combination of guide, divergence, estimator and schedule, arguments at their
        ends; checked, as all are."""
        compared = ("guide", "divergence", "estimator", "schedule")
        combinations = math.prod(corner_count(self.dimensions[name]) for name in compared)
        if combinations > MOST_CONFIGURATIONS:
            reason = (
                f"guides, divergences, estimators and schedules have {big(combinations)} combinations, all of which "
                f"are checked before a search that learns; at most {MOST_CONFIGURATIONS:,}: list fewer values"
            )
            raise SpecError(reason, key="space")
        first = {name: next(corners(dimension)) for name, dimension in self.dimensions.items()}
        for points in product(*(list(corners(self.dimensions[name])) for name in compared)):
            yield self._draft({**first, **dict(zip(compared, points, strict=True))})

    def distinct(
        self, choosers: Iterable[Chooser], seed: int, seen: Container[Configuration] = ()
    ) -> Iterator[Draft]:
        """What choosers decide on, each configuration once, and none that was seen.

        When choosers find nothing new any more, a space that can be listed gives the rest, shuffled by the seed.
        """
        size, found = self.size, set[Configuration]()
        listed = size is not None and size <= _LISTED
        redraws, limit = 0, _REDRAWS_LISTED if listed else _REDRAWS
        for chooser in choosers:
            draft = self.choose(chooser)
            if draft.configuration in found or draft.configuration in seen:
                redraws += 1
                if redraws >= limit:
                    break
                continue
            redraws = 0
            found.add(draft.configuration)
            yield draft
        if listed:
            rest = [draft for draft in self.walk() if draft.configuration not in found]
            random.Random(f"{seed}/rest").shuffle(rest)
            yield from (draft for draft in rest if draft.configuration not in seen)

    def _draft(self, points: Mapping[str, Point]) -> Draft:
        """A configuration with its defaults completed, its estimator picked, and its combination checked."""
        written = {name: point.value for name, point in points.items() if isinstance(point.value, Choice)}
        full: dict[str, Any] = {name: point.value for name, point in points.items()}
        full |= {name: self.catalogue.complete(name, choice) for name, choice in written.items()}
        try:
            choices = (full["guide"], full["divergence"], full["estimator"])
            picked = self.catalogue.resolve_estimator(*choices, full["num_samples"])
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


def _grid(space: Space, configurations: int | None) -> list[Draft]:
    """The whole grid, or its first `configurations`."""
    _check_grid(space, configurations)
    drafts = list(islice(space.walk(), configurations))
    if configurations is not None and len(drafts) < configurations:
        raise _too_many(configurations, len(drafts))
    return drafts


def _check_grid(space: Space, configurations: int | None) -> None:
    """Refuse a grid that is larger than any sweep, before it is listed."""
    size = space.size if configurations is None else max(count(one) or 0 for one in space.dimensions.values())
    if size is not None and size > MOST_CONFIGURATIONS:
        what = "the grid" if configurations is None else "one dimension"
        reason = (
            f"{what} has {big(size)} points, and a sweep has at most {MOST_CONFIGURATIONS:,}; list fewer values, or "
            "draw from the space: search: random (or qmc, tpe) with a number of configurations"
        )
        raise SpecError(reason, key="space")


def _random(seed: int) -> Iterator[Chooser]:
    return (by_draw(seed, number) for number in count_from(0))


def _sobol(space: Space, seed: int) -> Iterator[Chooser]:
    """Choosers by the points of a Sobol sequence, scrambled by the seed, a coordinate for every question."""
    from scipy.stats import qmc

    names = space.questions()
    engine = qmc.Sobol(max(1, len(names)), scramble=True, rng=seed)
    # The sequence is balanced after every power of two, and drawn so far at a time.
    for exponent in chain([_SOBOL], count_from(_SOBOL)):
        for point in engine.random_base2(exponent).tolist():
            yield Uniform(dict(zip(names, point, strict=False)).__getitem__)


def _drawn(space: Space, choosers: Iterator[Chooser], seed: int, configurations: int) -> list[Draft]:
    """That many different configurations, chosen one after the other."""
    check_number(space, configurations)
    drafts = list(islice(space.distinct(choosers, seed), configurations))
    if len(drafts) < configurations:
        raise _too_many(configurations, len(drafts))
    return drafts


def check_number(space: Space, configurations: int) -> None:
    """Refuse more configurations than the space has points."""
    if space.size is not None and configurations > space.size:
        raise _too_many(configurations, space.size)


def _too_many(asked: int, there: int) -> SpecError:
    """The error for more configurations than the space holds."""
    cure = "ask for fewer, or add values to the space"
    message = f"{show(asked)} configurations are asked for and the space holds {big(there)}; {cure}"
    return SpecError(
        message, key="configurations", allowed=(f"a whole number, at least 1 and at most {big(there)}",)
    )
