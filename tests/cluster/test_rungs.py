"""Packs from rung to rung. Promise 3: the same sweep stops the same configurations, whoever ran them and when."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vi_dist.cluster.driver import Driver
from vi_dist.cluster.executor import Executor
from vi_dist.cluster.inline_executor import InlineExecutor
from vi_dist.cluster.observer import Observer
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.progress import Progress
from vi_dist.cluster.rungs import Rungs
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import Outcome
from vi_dist.cluster.time_limits import TimeLimits
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.halving import Halving, Rung
from vi_dist.sweep.plan import plan

Configure = Callable[..., Configuration]
MakeSetup = Callable[..., Setup]

HALVING = Halving(3, 10)


class Ends(Observer):
    """Every configuration's end, each told once."""

    def __init__(self) -> None:
        self.outcomes: dict[int, Outcome] = {}
        self.losses: dict[int, list[float]] = {}

    def pack_ended(self, run: PackRun) -> None:
        curves = run.curves()
        for member, outcome, curve in zip(run.members, run.outcomes or (), curves, strict=True):
            self.losses.setdefault(member, []).extend(curve["train/loss"].tolist())
            if outcome.over:
                assert member not in self.outcomes, "told twice"
                self.outcomes[member] = outcome


@pytest.fixture(scope="module")
def members(configuration: Configure) -> list[Configuration]:
    """Two programs of eleven and six configurations; one diverges, one takes few steps, all of one schedule."""
    rates = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.05, 0.02, 0.2, 1e30]
    first = [
        configuration(learning_rate=rate, seed=k, steps=60, schedule="cosine") for k, rate in enumerate(rates)
    ]
    short = configuration(seed=20, steps=8)
    second = [
        configuration(guide="full_rank", learning_rate=rate, seed=k, steps=60)
        for k, rate in enumerate(rates[:6])
    ]
    return [*first, short, *second]


def swept(
    members: list[Configuration],
    setup: Setup,
    executor: Executor | None = None,
    halving: Halving | None = HALVING,
    **options: Any,
) -> tuple[Ends, list[Rung], Driver]:
    """What becomes of configurations in packs of at most four."""
    ranked: list[Rung] = []
    rungs = Rungs(members, plan(members, 4), halving, setup.samples, ranked=ranked.append)
    ends = Ends()
    options["expected"] = (len(members), rungs.expected_steps)
    driver = Driver(rungs.first, setup, executor or InlineExecutor(), [ends], follow=rungs, **options)
    driver.run()
    return ends, ranked, driver


@pytest.fixture(scope="module")
def whole(members: list[Configuration], toy_setup: MakeSetup) -> Ends:
    """All of them without rungs."""
    return swept(members, toy_setup(), halving=None)[0]


@pytest.fixture(scope="module")
def seen() -> list[Progress]:
    """What was told of `halved` on its way."""
    return []


@pytest.fixture(scope="module")
def halved(
    members: list[Configuration], toy_setup: MakeSetup, seen: list[Progress]
) -> tuple[Ends, list[Rung], Driver]:
    return swept(members, toy_setup(), callback=seen.append)


def test_every_rung_is_ranked_whole_and_the_best_third_goes_on(
    halved: tuple[Ends, list[Rung], Driver],
) -> None:
    ends, (first, second), _ = halved
    # The short one has finished before the first rung; the diverged one entered it.
    assert (first.steps, first.entered, first.kept, len(first.values)) == (
        10,
        16,
        6,
        16 - (9 not in first.values),
    )
    assert (second.steps, second.entered, second.kept) == (30, 6, 2)
    assert set(second.values) == set(first.survivors)
    assert len(ends.outcomes) == 17
    by_status = {
        status: sorted(place for place, outcome in ends.outcomes.items() if outcome.status == status)
        for status in ("finished", "stopped", "diverged")
    }
    assert by_status["finished"] == sorted([*second.survivors, 10])
    assert set(by_status["stopped"]) >= {*second.stopped}
    for place in second.stopped:
        outcome = ends.outcomes[place]
        assert outcome.steps == 30 and outcome.elbo == second.values[place] and outcome.leaves
        assert outcome.reason == second.reason(place, "elbo", 60)


def test_what_diverges_leaves_at_once(toy_setup: MakeSetup, configuration: Configure) -> None:
    members = [configuration(seed=k, steps=90) for k in range(3)]
    members += [configuration(seed=k, steps=90, learning_rate=1e30) for k in range(3)]
    ends, (first, *_), _ = swept(members, toy_setup(), halving=Halving(3, 30))
    assert [ends.outcomes[place].status for place in (3, 4, 5)] == ["diverged"] * 3
    assert all(ends.outcomes[place].steps < 30 for place in (3, 4, 5))
    assert (first.entered, first.kept, sorted(first.values)) == (6, 2, [0, 1, 2])


def test_what_goes_on_has_bitwise_the_numbers_of_a_run_without_rungs(
    halved: tuple[Ends, list[Rung], Driver], whole: Ends
) -> None:
    ends, _, _ = halved
    for place, outcome in ends.outcomes.items():
        losses, all_of_them = ends.losses[place], whole.losses[place]
        assert len(losses) == outcome.steps
        np.testing.assert_array_equal(losses, all_of_them[: len(losses)])
        if outcome.status == "finished":
            undisturbed = whole.outcomes[place]
            assert (outcome.elbo, outcome.iw_elbo, outcome.khat) == (
                undisturbed.elbo,
                undisturbed.iw_elbo,
                undisturbed.khat,
            )
            assert all(leaf.equal(undisturbed.leaves[name]) for name, leaf in outcome.leaves.items())


@pytest.mark.parametrize(("workers", "seed", "losses", "chunk_seconds"), [(1, 0, 0, 1e-4), (3, 2, 2, 0.02)])
def test_workers_arrivals_chunks_and_losses_change_nothing(
    members: list[Configuration],
    toy_setup: MakeSetup,
    halved: tuple[Ends, list[Rung], Driver],
    scrambled: Callable[..., Any],
    workers: int,
    seed: int,
    losses: int,
    chunk_seconds: float,
) -> None:
    executor = scrambled(workers, seed, losses)
    ends, ranked, _ = swept(members, toy_setup(), executor, chunk_seconds=chunk_seconds)
    assert executor.losses == 0, "nothing was lost, which is no test of losses"
    expected, rungs, _ = halved
    assert repr(ranked) == repr(rungs)  # as text, since one value is not a number
    for place, outcome in expected.outcomes.items():
        other = ends.outcomes[place]
        assert (outcome.status, outcome.reason, outcome.steps) == (other.status, other.reason, other.steps)
        assert np.array_equal(outcome.elbo, other.elbo, equal_nan=True)
        assert all(leaf.equal(other.leaves[name]) for name, leaf in outcome.leaves.items())
        np.testing.assert_array_equal(ends.losses[place], expected.losses[place])


def test_survivors_share_fewer_packs_of_the_same_width(halved: tuple[Ends, list[Rung], Driver]) -> None:
    _, (first, _), driver = halved
    tasks = [run.task for run in driver.runs]
    assert [task.index for task in tasks] == list(range(len(tasks)))
    assert {task.width for task in tasks} == {8}
    after_first = [run for run in driver.runs if run.task.pause == 30]
    assert sorted(place for run in after_first for place in run.members) == first.survivors
    programs = {run.task.configurations[0].guide.name for run in after_first}
    assert len(after_first) == sum(
        math.ceil(sum(place in members for place in first.survivors) / 4)
        for members in (range(11), range(11, 17))
        if any(place in members for place in first.survivors)
    )
    assert len(programs) <= 2
    seconds = [outcome.seconds for run in after_first for outcome in run.outcomes or ()]
    before = {
        m: o.seconds for run in driver.runs[:5] for m, o in zip(run.members, run.outcomes or (), strict=True)
    }
    assert all(
        later > before[member]
        for run in after_first
        for member, later in zip(run.members, [o.seconds for o in run.outcomes or ()], strict=True)
    ), "a configuration's time is that of all its packs"
    assert len(seconds) == 6


def test_progress_ends_at_all_of_them(halved: tuple[Ends, list[Rung], Driver], seen: list[Progress]) -> None:
    done = [moment.done for moment in seen]
    assert done == sorted(done)
    assert (seen[-1].done, seen[-1].total) == (17, 17)
    assert all(moment.steps_done <= moment.steps_total == 16 * 10 + 8 + 6 * 20 + 2 * 30 for moment in seen)


def test_ctrl_c_between_rungs_interrupts_what_had_paused(
    members: list[Configuration], toy_setup: MakeSetup
) -> None:
    asked: list[Progress] = []

    def interrupt(moment: Progress) -> None:
        if moment.steps_done >= 4 * 10 + 5 and not asked:  # the second pack is on its way
            asked.append(moment)
            os.kill(os.getpid(), signal.SIGINT)

    ends, ranked, driver = swept(members, toy_setup(), callback=interrupt, chunk_seconds=1e-4)
    assert driver.interrupted and not ranked
    assert len(ends.outcomes) == 17
    paused = [ends.outcomes[place] for place in range(4)]
    assert {outcome.reason for outcome in paused} == {"Interrupted after 10 of 60 steps."}
    assert all(math.isfinite(outcome.elbo) for outcome in paused), "they had been evaluated"
    assert ends.outcomes[16].reason == "Interrupted before it began."


def test_a_budget_that_is_used_up_evaluates_what_is_open_and_starts_nothing(
    toy_setup: MakeSetup, configuration: Configure
) -> None:
    members = [configuration(seed=k, steps=1_000_000) for k in range(8)]
    limits = TimeLimits(sweep=1.0)
    ends, _, _ = swept(members, toy_setup(), halving=None, limits=limits, chunk_seconds=0.1)
    first, second = ends.outcomes[0], ends.outcomes[7]
    assert {outcome.status for outcome in ends.outcomes.values()} == {"stopped"}
    assert 0 < first.steps < 1_000_000 and math.isfinite(first.elbo)
    assert first.reason == (
        f"Stopped after {first.steps} of 1000000 steps: the sweep's budget of 0.0166667 min is used up."
    )
    assert second.steps == 0 and math.isnan(second.elbo)


def test_a_time_limit_ends_a_pack_and_not_the_next(toy_setup: MakeSetup, configuration: Configure) -> None:
    members = [configuration(seed=k, steps=1_000_000) for k in range(4)] + [configuration(guide="full_rank")]
    limits = TimeLimits(configuration=0.1)
    ends, _, _ = swept(members, toy_setup(), halving=None, limits=limits, chunk_seconds=0.05)
    slow = ends.outcomes[0]
    assert slow.status == "stopped" and 0 < slow.steps < 1_000_000 and math.isfinite(slow.elbo)
    assert "its share of its pack's time reached the limit of 0.1 s." in slow.reason
    assert slow.seconds >= 0.1
    assert ends.outcomes[4].status == "finished"


def test_a_budget_ends_what_paused_at_a_rung(toy_setup: MakeSetup, configuration: Configure) -> None:
    members = [configuration(seed=k, steps=60) for k in range(6)]
    ends, ranked, _ = swept(members, toy_setup(), limits=TimeLimits(sweep=0.3), chunk_seconds=10.0)
    assert not ranked
    assert {outcome.status for outcome in ends.outcomes.values()} == {"stopped"}
    assert "the sweep's budget" in ends.outcomes[0].reason
