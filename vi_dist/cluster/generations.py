"""Generation after generation of a search: each told whole before the next is asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.rungs import Rungs
from vi_dist.cluster.task import Outcome
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.search import Told, TpeSearch

Open = Callable[[Sequence[Configuration]], Rungs]
"""Plans the packs of a generation, which has just joined the sweep."""


class Generations:
    """What follows the packs of a search (`Driver.follow`): the rungs of a generation, then the next generation.

    Args:
        search: asked and told.
        first: the first generation's rungs.
        open_next: makes those of the others.
        objective: the number that is told, an attribute of `Outcome`; larger is better.
    """

    def __init__(self, search: TpeSearch, first: Rungs, open_next: Open, objective: str = "elbo") -> None:
        self._search, self._open, self._objective = search, open_next, objective
        self._rungs, self._outcomes = first, dict[int, Outcome]()

    def __call__(self, runs: Sequence[PackRun]) -> Sequence[PackRun]:
        """The packs after the next rung or, when the generation has come to its end, of the next generation."""
        more: Sequence[PackRun] = self._rungs(runs)
        for run in runs:
            ended = zip(run.members, run.outcomes or (), strict=True)
            self._outcomes |= {member: outcome for member, outcome in ended if outcome.over}
        if more:
            return more
        self._search.tell([self._told(self._outcomes[place]) for place in sorted(self._outcomes)])
        self._outcomes = {}
        asked = self._search.ask()
        if not asked:
            return ()
        self._rungs = self._open(asked)
        return self._rungs.first

    def _told(self, outcome: Outcome) -> Told:
        """Whatever failed or diverged has no value, even where an evaluation got through."""
        value = outcome.value(self._objective)
        if outcome.status == "stopped":
            return Told(value, outcome.steps)
        return Told(value if outcome.status == "finished" else math.nan)
