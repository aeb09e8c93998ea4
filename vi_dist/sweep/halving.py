"""Successive halving: at which steps configurations are compared, and which of them go on.

Synchronous, after Jamieson and Talwalkar (AISTATS 2016): every rung is ranked whole, so that neither the number of
workers nor the order in which they report decides what is stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from vi_dist.errors import SpecError
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.spec import SweepSpec


@dataclass(frozen=True)
class Halving:
    """Rungs at `min_steps` times 1, `eta`, `eta`², ... steps; at each, one in `eta` goes on."""

    eta: int
    min_steps: int

    def rungs(self, steps: Iterable[int]) -> tuple[int, ...]:
        """The rungs below the longest configuration's own steps.

        >>> Halving(3, 500).rungs([2000, 5000])
        (500, 1500, 4500)
        """
        longest = max(steps, default=0)
        found: list[int] = []
        while (rung := self.min_steps * self.eta ** len(found)) < longest:
            found.append(rung)
        return tuple(found)

    def kept(self, entered: int) -> int:
        """How many of those that entered a rung go on."""
        return -(-entered // self.eta)

    def course(self, steps: Iterable[int]) -> list[dict[str, int]]:
        """Every rung for configurations of so many steps: how many enter and how many are kept, if nothing diverges."""
        left = list(steps)
        told = []
        for number, rung in enumerate(self.rungs(left), start=1):
            left = [own for own in left if own > rung]
            kept = self.kept(len(left))
            told.append({"rung": number, "steps": rung, "entered": len(left), "kept": kept})
            left = left[:kept]
        return told

    def expected_steps(self, steps: Iterable[int]) -> int:
        """Steps that configurations of so many steps would take in all, if nothing diverged and the first ones won."""
        left = list(steps)
        total, before = 0, 0
        for rung in self.rungs(left):
            total += sum(min(own, rung) - before for own in left)
            running = [own for own in left if own > rung]
            left, before = running[: self.kept(len(running))], rung
        return total + sum(own - before for own in left)


@dataclass(frozen=True)
class Rung:
    """One rung after it was ranked.

    Attributes:
        number: from 1.
        of: rungs there are.
        steps: at which it stands.
        values: the objective by the configuration's place in the sweep's list; NaN where it is not defined; what
            diverged or failed on the way is not among them.
        entered: configurations that set out for it, diverged ones included.
        kept: how many of them may go on.
    """

    number: int
    of: int
    steps: int
    values: Mapping[int, float]
    entered: int
    kept: int

    @cached_property
    def order(self) -> list[int]:
        """Places from the best down: by value, undefined ones last, and equals in the sweep's own order."""
        return sorted(self.values, key=lambda place: (*falling(self.values[place]), place))

    @property
    def survivors(self) -> list[int]:
        """Places that go on, in the sweep's order."""
        return sorted(self.order[: self.kept])

    @property
    def stopped(self) -> list[int]:
        """Places that leave, best first."""
        return self.order[self.kept :]

    @cached_property
    def _ranks(self) -> dict[int, int]:
        """Every place's rank, from 1."""
        return {place: rank for rank, place in enumerate(self.order, start=1)}

    @property
    def cut(self) -> float:
        """The value of the last one that goes on; NaN if there is none."""
        last = min(self.kept, len(self.order))
        return self.values[self.order[last - 1]] if last else math.nan

    def reason(self, place: int, objective: str, steps: int) -> str:
        """Why a configuration of so many steps was stopped here, in a sentence."""
        rank = self._ranks[place]
        return (
            f"Stopped at rung {self.number} of {self.of}, after {self.steps} of {steps} steps: rank {rank} of "
            f"{self.entered} by {objective} ({_shown(self.values[place])}), and the best {self.kept} went on "
            f"(cut at {_shown(self.cut)})."
        )


def halving_of(spec: SweepSpec, configurations: Iterable[Configuration]) -> Halving | None:
    """The spec's halving; None if it has none. Raises `SpecError` where the first rung comes after the last step."""
    if spec.halving is None:
        return None
    longest = max(configuration.steps for configuration in configurations)
    if spec.halving.min_steps >= longest:
        with spec.source.placing():
            raise SpecError(
                f"the first rung stands at {spec.halving.min_steps} steps and no configuration takes more than "
                f"{longest}; lower it, or delete halving",
                key="halving.min_steps",
                allowed=(f"a whole number, at least 1 and at most {longest - 1}",),
            )
    return Halving(spec.halving.eta, spec.halving.min_steps)


def falling(value: float) -> tuple[bool, bool, float]:
    """A sort key: large values first, then minus infinity, then what is not defined."""
    undefined = math.isnan(value)
    return undefined, value == -math.inf, 0.0 if undefined or value == -math.inf else -value


def _shown(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.3f}"
