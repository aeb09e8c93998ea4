"""The course of a sweep: its first packs and what follows them, rung by rung and generation by generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vi_dist.api.planning import PlannedSweep
from vi_dist.cluster.driver import Follow
from vi_dist.cluster.generations import Generations
from vi_dist.cluster.observer import Observer
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.rungs import Rungs
from vi_dist.cluster.sweep_files import SweepFiles
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.plan import Pack


@dataclass(frozen=True)
class Course:
    """What a driver runs.

    Attributes:
        first: the packs to begin with.
        follow: what comes after packs.
        expected: configurations and steps in all, as far as that can be told.
    """

    first: Sequence[PackRun]
    follow: Follow
    expected: tuple[int, int]


def open_course(planned: PlannedSweep, files: SweepFiles, observers: Sequence[Observer]) -> Course:
    """The course of a planned sweep; `files` keep how rungs were ranked, `observers` hear of what joins."""
    configurations = list(planned.configurations)
    first = _rungs(planned, files, configurations, planned.packs, 1)
    here = len(configurations)
    if planned.search is None:
        return Course(first.first, first, (here, first.expected_steps))
    latest, generation = first, 1

    def open_next(asked: Sequence[Configuration]) -> Rungs:
        nonlocal latest, generation
        generation += 1
        packs = planned.plan(asked, first_place=len(configurations), first_index=latest.next_index)
        configurations.extend(asked)
        keys = [planned.key(configuration) for configuration in asked]
        for observer in observers:
            observer.joined(keys, asked, packs)
        latest = _rungs(planned, files, configurations, packs, generation)
        return latest

    total = planned.search.total
    steps = round(first.expected_steps * total / here)
    follow = Generations(planned.search, first, open_next, planned.objective)
    return Course(first.first, follow, (total, steps))


def _rungs(
    planned: PlannedSweep,
    files: SweepFiles,
    configurations: Sequence[Configuration],
    packs: Sequence[Pack],
    generation: int,
) -> Rungs:
    search = planned.search
    return Rungs(
        configurations,
        packs,
        planned.halving,
        planned.spec.evaluation.samples,
        objective=planned.objective,
        ranked=lambda rung: files.rung_ranked(rung, configurations, generation),
        kinds=() if search is None else search.kinds,
        rounds=1 if search is None else -(-search.total // search.generation),
    )
