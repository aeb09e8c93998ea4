"""Packs from rung to rung: every rung is ranked whole, the weakest end there, the others share fewer packs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.shard_state import of_shards, together
from vi_dist.cluster.task import Chunk, PackTask
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.halving import Halving, Rung
from vi_dist.sweep.plan import Pack, Program, program
from vi_dist.vi.state import PackState, gather

RUNG_SAMPLES = 1024
"""Draws of an evaluation that only says who goes on."""


class Rungs:
    """What follows the packs of a list of configurations (`Driver.follow`): one rung after the other.

    Who is stopped is a function of the configurations and their results; where and when those were computed does not
    matter. What goes on takes its columns' states along, in packs of the width that it had, so that its numbers are
    bitwise those of a run without rungs.

    Args:
        configurations: of the sweep, by place.
        packs: the plan of those to run.
        halving: where the rungs are; None for none.
        samples: draws of an evaluation at the end.
        objective: the number that rungs are ranked by, an attribute of `Outcome`; larger is better.
        ranked: told of every rung.
        kinds: configurations whose kinds of columns the programs must know beside those of `configurations`, because
            they may be asked for later.
        rounds: how often as many packs again may follow, for which the programs are worth compiling too.
    """

    def __init__(
        self,
        configurations: Sequence[Configuration],
        packs: Sequence[Pack],
        halving: Halving | None,
        samples: int,
        *,
        objective: str = "elbo",
        ranked: Callable[[Rung], None] | None = None,
        kinds: Sequence[Configuration] = (),
        rounds: int = 1,
    ) -> None:
        self.first = pack_runs(packs, configurations, kinds, rounds)
        self._halving, self._samples, self._objective, self._ranked = halving, samples, objective, ranked
        self._steps = {place: configurations[place].steps for pack in packs for place in pack.configurations}
        self._pauses = halving.rungs(self._steps.values()) if halving is not None else ()
        self._capacity: dict[tuple[Program, int], int] = {}
        for run in self.first:
            kind = run.task.program
            self._capacity[kind] = max(self._capacity.get(kind, 0), len(run.members))
        self._number = 0
        self.next_index = max((run.task.index for run in self.first), default=-1) + 1
        """Number of the next pack."""
        for run in self.first:
            run.task = self._paused(run.task)

    @property
    def expected_steps(self) -> int:
        """Steps that all configurations will take, if none diverges."""
        steps = list(self._steps.values())
        return sum(steps) if self._halving is None else self._halving.expected_steps(steps)

    def __call__(self, runs: Sequence[PackRun]) -> list[PackRun]:
        """Rank the rung that these packs have reached, stop the weakest, and regroup the others."""
        going = {
            member: (run, row)
            for run in runs
            for row, (member, outcome) in enumerate(zip(run.members, run.outcomes or (), strict=True))
            if not outcome.over
        }
        if going and self._number < len(self._pauses):
            rung = self._rank(runs, list(going))
            if self._ranked is not None:
                self._ranked(rung)
            for place in rung.stopped:
                run, row = going.pop(place)
                run.end(row, "stopped", rung.reason(place, self._objective, self._steps[place]))
        return self._regrouped(going)

    def _rank(self, runs: Sequence[PackRun], places: Sequence[int]) -> Rung:
        """The rung that was just reached; the next one is ahead afterwards."""
        steps = self._pauses[self._number]
        self._number += 1
        entered = sum(self._steps[member] > steps for run in runs for member in run.members)
        outcomes = {
            member: outcome
            for run in runs
            for member, outcome in zip(run.members, run.outcomes or (), strict=True)
        }
        values = {place: outcomes[place].value(self._objective) for place in places}
        assert self._halving is not None
        return Rung(self._number, len(self._pauses), steps, values, entered, self._halving.kept(entered))

    def _regrouped(self, going: dict[int, tuple[PackRun, int]]) -> list[PackRun]:
        """Packs of what goes on: of each program as few as its first packs' size allows, in the sweep's order."""
        alike: dict[tuple[Program, int], list[int]] = {}
        for place in sorted(going):
            alike.setdefault(going[place][0].task.program, []).append(place)
        runs = []
        for kind, places in alike.items():
            size = self._capacity[kind]
            for start in range(0, len(places), size):
                members = tuple(places[start : start + size])
                runs.append(self._continued(members, [going[place] for place in members]))
        return runs

    def _continued(self, members: tuple[int, ...], parts: Sequence[tuple[PackRun, int]]) -> PackRun:
        """A pack of columns taken from others, at the states that they have there."""
        first = parts[0][0].task
        configurations = tuple(run.task.configurations[row] for run, row in parts)
        task = self._paused(replace(first, index=self.next_index, configurations=configurations))
        self.next_index += 1
        return PackRun(
            task,
            members,
            last=_together(parts, task.width),
            spent=tuple(run.shares()[row] for run, row in parts),
            ahead=min(run.ahead for run, _ in parts),
        )

    def _paused(self, task: PackTask) -> PackTask:
        """The task up to the next rung, or to the end."""
        if self._number == len(self._pauses):
            return replace(task, pause=None, samples=None)
        pause = self._pauses[self._number]
        # One that ends here is evaluated for good: then all are, since a rung compares like with like.
        ends = any(steps <= pause for steps in self._steps.values())
        return replace(task, pause=pause, samples=None if ends else min(RUNG_SAMPLES, self._samples))


def pack_runs(
    packs: Sequence[Pack],
    configurations: Sequence[Configuration],
    kinds: Sequence[Configuration] = (),
    rounds: int = 1,
) -> list[PackRun]:
    """The packs of a plan, ready to run; those that share a program know of each other. `kinds`, `rounds`: `Rungs`."""
    chosen = [tuple(configurations[place] for place in pack.configurations) for pack in packs]
    sharing: dict[tuple[Program, int], list[int]] = {}
    for index, pack in enumerate(packs):
        sharing.setdefault((program(chosen[index][0]), pack.width), []).append(index)
    runs: list[PackRun] = []
    known: dict[tuple[Program, int], tuple[tuple[Configuration, ...], int]] = {}
    for shared, others in sharing.items():
        later = [kind for kind in kinds if kind.guide.name == shared[0][0].name]
        members = [configuration for other in others for configuration in chosen[other]]
        steps = sum(max(configuration.steps for configuration in chosen[other]) for other in others)
        known[shared] = _kinds([*later, *members]), rounds * steps
    for index, pack in enumerate(packs):
        task = PackTask(pack.index, pack.width, chosen[index], *known[program(chosen[index][0]), pack.width])
        runs.append(PackRun(task, pack.configurations))
    return runs


def _kinds(configurations: Sequence[Configuration]) -> tuple[Configuration, ...]:
    """One configuration for every divergence, estimator and schedule there is among them."""
    found: dict[tuple[str, str, str], Configuration] = {}
    for one in configurations:
        found.setdefault((one.divergence.name, one.estimator.name, one.schedule.name), one)
    return tuple(found.values())


def _together(parts: Sequence[tuple[PackRun, int]], width: int) -> Chunk:
    """Where columns of several packs stand, as a chunk of no steps of the pack that they form now."""
    chunks: list[tuple[Chunk, int]] = []
    for run, row in parts:
        assert run.last is not None
        chunks.append((run.last, row))
    steps = np.array([chunk.after[row] for chunk, row in chunks])
    last = chunks[0][0]
    return Chunk(
        state=_state(
            [
                (run.task.index, chunk.state, row)
                for (run, _), (chunk, row) in zip(parts, chunks, strict=True)
            ],
            width,
        ),
        before=steps,
        after=steps,
        skipped=np.array([chunk.skipped[row] for chunk, row in chunks]),
        alive=np.array([chunk.alive[row] for chunk, row in chunks]),
        curves={},
        began_ms=last.ended_ms,
        ended_ms=last.ended_ms,
        seconds=0.0,
        preparing=0.0,
        kind=last.kind,
    )


def _state(parts: Sequence[tuple[int, bytes, int]], width: int) -> bytes:
    """The state of columns of several packs, given as (pack, state, row)."""
    if of_shards(parts[0][1]):
        return together(parts).to_bytes()
    states = {pack: PackState.from_bytes(content) for pack, content, _ in parts}
    return gather([(states[pack], row) for pack, _, row in parts], width).to_bytes()
