"""A search that learns: Optuna's tree-structured Parzen estimator, asked and told a whole generation at a time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

from vi_dist.sweep.catalogue import Catalogue
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.dimension import Range
from vi_dist.sweep.naming import Draft, named
from vi_dist.sweep.points import Uniform, by_draw, rounded
from vi_dist.sweep.space import Space, check_number
from vi_dist.sweep.spec import GENERATION, SweepSpec

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.samplers import BaseSampler

LEARNT_FROM = 1000
"""Results that proposals are learnt from: of half as many again, the best half and the latest. The time of a proposal
grows with them, to 20 ms at a thousand."""
# How often the sampler is asked anew for what it has proposed before, until a draw of chance takes its place.
_REASKS = 8


@dataclass(frozen=True)
class Told:
    """How a configuration did.

    Attributes:
        value: the objective, larger is better; NaN or infinite for one that failed or diverged.
        stopped_at: steps after which it was stopped by others that were better; None if it took all.
    """

    value: float
    stopped_at: int | None = None


class TpeSearch:
    """Asks for configurations in generations, each a function of the spec and of what was told of those before.

    A generation is asked whole, before anything of it is known, and told whole, in the order in which it was asked:
    so neither the number of workers nor the order of results can move the search.

    Args:
        spec: with a number of configurations.
        catalogue: what its names mean. Every combination in its space is checked here, before anything is run.

    Raises:
        SpecError: as `vi_dist.sweep.space.resolve`.
    """

    def __init__(self, spec: SweepSpec, catalogue: Catalogue) -> None:
        assert spec.configurations is not None
        with spec.source.placing():
            self._space = Space.of(spec, catalogue)
            check_number(self._space, spec.configurations)
            corners = list(self._space.corners())
        self.kinds = tuple(dict.fromkeys(draft.configuration for draft in corners))
        """Configurations that show every kind of column that may be asked for."""
        self.total, self.generation, self._seed = (
            spec.configurations,
            spec.generation or GENERATION,
            spec.seed,
        )
        self._study: Study | None = None
        self._trials: list[Trial | None] = []
        self._asked: dict[Configuration, str] = {}

    def ask(self) -> list[Configuration]:
        """The next generation, distinct from all before; empty when all have been asked for."""
        wanted = min(self.generation, self.total - len(self._asked))
        drafts: list[Draft] = []
        for _ in range(wanted):
            found = self._new()
            if found is None:  # fewer configurations than points: some resolve to the same
                self.total = len(self._asked)
                break
            trial, draft = found
            self._trials.append(trial)
            self._asked[draft.configuration] = ""
            drafts.append(draft)
        return self._named(drafts)

    def tell(self, told: Sequence[Told]) -> None:
        """How the last generation did, in the order of `ask`."""
        from optuna.trial import TrialState

        for trial, one in zip(self._trials, told, strict=True):
            if trial is None:
                continue
            if not math.isfinite(one.value):
                self._refuse(trial)
            elif one.stopped_at is None:
                self._opened.tell(trial, one.value)
            else:
                trial.report(one.value, one.stopped_at)
                self._opened.tell(trial, state=TrialState.PRUNED)
        self._trials = []
        self._forget()

    def _forget(self) -> None:
        """Keep the best results and the latest where there are many more than proposals are learnt from."""
        from optuna.trial import TrialState

        everything = self._opened.get_trials(deepcopy=False)
        if len(everything) <= LEARNT_FROM + LEARNT_FROM // 2:
            return
        known = [one for one in everything if one.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        # As the sampler ranks them: what took all its steps first, then what was stopped latest.
        ranked = sorted(known, key=lambda one: (-(one.last_step or math.inf), -(one.value or 0.0)))
        kept = {one.number for one in (*ranked[: LEARNT_FROM // 2], *known[-(LEARNT_FROM // 2) :])}
        self._study = _study(self._opened.sampler)
        self._study.add_trials([one for one in known if one.number in kept])

    @property
    def _opened(self) -> Study:
        """The study, in this process's memory; importing Optuna takes a second, and only a search needs it."""
        if self._study is None:
            import optuna

            with warnings.catch_warnings():
                # `group` models conditional arguments apart, and is called experimental.
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                sampler = optuna.samplers.TPESampler(seed=self._seed, multivariate=True, group=True)
            self._study = _study(sampler)
        return self._study

    def _new(self) -> tuple[Trial | None, Draft] | None:
        """A proposal that is new: the sampler's or, where it repeats itself, one of chance; None if there is none."""
        for _ in range(_REASKS):
            trial, draft = self._proposal()
            if draft.configuration not in self._asked:
                return trial, draft
            self._refuse(trial)
        drawn: list[Uniform] = []
        choosers = (self._by_chance(number, drawn) for number in count(len(self._asked)))
        found = next(self._space.distinct(choosers, self._seed, self._asked), None)
        if found is None:
            return None
        self._opened.enqueue_trial(drawn[-1].chosen)
        trial, draft = self._proposal()
        if draft.configuration == found.configuration:
            return trial, found
        self._refuse(trial)  # taken from the list of what is left, which no answers lead to
        return None, found

    def _proposal(self) -> tuple[Trial, Draft]:
        trial = self._opened.ask()
        return trial, self._space.choose(_ByTrial(trial))

    def _refuse(self, trial: Trial) -> None:
        from optuna.trial import TrialState

        self._opened.tell(trial, state=TrialState.FAIL)

    def _by_chance(self, number: int, drawn: list[Uniform]) -> Uniform:
        drawn.append(by_draw(self._seed, number))
        return drawn[-1]

    def _named(self, drafts: Sequence[Draft]) -> list[Configuration]:
        """A generation with names that no other has; those of earlier ones are known already and stay."""
        taken = set(self._asked.values())
        configurations = []
        for place, one in enumerate(named(drafts), start=len(self._asked) - len(drafts)):
            name = one.name if one.name not in taken else f"{one.name}-{place}"
            self._asked[one] = name
            taken.add(name)
            configurations.append(replace(one, name=name))
        return configurations


def _study(sampler: BaseSampler) -> Study:
    """A study without trials; Optuna would log that there is one."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    optuna.logging.set_verbosity(before)
    return study


class _ByTrial:
    """Chooses as a trial suggests."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    def option(self, name: str, count: int) -> int:
        return int(self._trial.suggest_categorical(name, tuple(range(count))) or 0)

    def number(self, name: str, found: Range) -> int | float:
        if isinstance(found.low, int) and isinstance(found.high, int):
            return self._trial.suggest_int(name, found.low, found.high, log=found.log)
        value = self._trial.suggest_float(name, float(found.low), float(found.high), log=found.log)
        return rounded(value, found)
