"""Promise 1: a configuration's result does not depend on where it ran, nor on its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import CURVES, Outcome, PackTask
from vi_dist.cluster.worker import PackWorker
from vi_dist.sweep.configuration import Configuration

Configure = Callable[..., Configuration]

# Between widths the same sums are taken in another order: over 30 steps float32 results drift apart by this much.
WIDTH_TOLERANCE = 2e-4

DIVERGENCES = ("kl_reverse", "kl_forward", {"amari": {"alpha": 0.5}}, {"amari": {"alpha": 0.9}}, "jeffreys")
FAMILIES = ("mean_field", "full_rank", "delta")


@dataclass(frozen=True)
class Result:
    """Everything that a configuration leaves behind."""

    outcome: Outcome
    curves: dict[str, np.ndarray[Any, Any]]

    def same_as(self, other: Result) -> bool:
        """Bitwise equality of everything but the time."""
        mine, theirs = self.outcome, other.outcome
        numbers = [(mine.elbo, theirs.elbo), (mine.iw_elbo, theirs.iw_elbo), (mine.khat, theirs.khat)]
        return (
            mine.status == theirs.status
            and mine.reason == theirs.reason
            and mine.steps == theirs.steps
            and all(np.array_equal(a, b, equal_nan=True) for a, b in numbers)
            and all(np.array_equal(self.curves[n], other.curves[n], equal_nan=True) for n in CURVES)
            and all(leaf.equal(theirs.leaves[name]) for name, leaf in mine.leaves.items())
        )


def run(
    worker: PackWorker,
    members: Sequence[Configuration],
    width: int,
    kinds: Sequence[Configuration] = (),
    chunk: int = 30,
) -> list[Result]:
    """The results of a pack that is stepped in chunks."""
    task = PackTask(0, width, tuple(members), tuple(kinds))
    state, chunks = None, []
    while state is None or chunks[-1].remaining(task):
        chunks.append(worker.advance(task, state, chunk))
        state = chunks[-1].state
    outcomes = worker.evaluate(task, state).outcomes
    return [
        Result(
            outcome,
            {
                n: np.concatenate([c.curves[n][: c.after[row] - c.before[row], row] for c in chunks])
                for n in CURVES
            },
        )
        for row, outcome in enumerate(outcomes)
    ]


def mixed(configuration: Configure, family: str) -> list[Configuration]:
    """Eight configurations that differ in everything a pack may hold, the last one without hope."""
    choices: list[dict[str, Any]] = [
        {"divergence": "kl_reverse", "seed": 0},
        {"divergence": "kl_reverse", "seed": 1, "learning_rate": 0.01, "schedule": "cosine"},
        {"divergence": "kl_forward", "seed": 2},
        {"divergence": {"amari": {"alpha": 0.5}}, "seed": 3},
        {"divergence": {"amari": {"alpha": 0.9}}, "seed": 4, "steps": 17},
        {"divergence": "jeffreys", "seed": 5, "optimizer": {"adam": {"beta1": 0.5}}},
        {"divergence": "kl_reverse", "estimator": "score", "seed": 6},
        {"divergence": "kl_reverse", "estimator": "reparam", "seed": 7, "learning_rate": 1e30},
    ]
    if family == "delta":  # a point knows one objective
        choices = [{**choice, "divergence": "kl_reverse", "estimator": "reparam"} for choice in choices]
    return [configuration(guide=family, **choice) for choice in choices]


@pytest.fixture(scope="module", params=FAMILIES)
def pack(
    request: pytest.FixtureRequest, toy_setup: Callable[..., Setup], configuration: Configure
) -> tuple[PackWorker, list[Configuration], list[Result]]:
    """A worker, eight configurations, and what becomes of them together."""
    members = mixed(configuration, request.param)
    worker = PackWorker(toy_setup())
    return worker, members, run(worker, members, 8, members)


def test_the_hopeless_one_is_named_and_the_others_finish(
    pack: tuple[PackWorker, list[Configuration], list[Result]],
) -> None:
    *others, hopeless = (result.outcome for result in pack[2])
    assert hopeless.status == "diverged"
    assert "Diverged at step" in hopeless.reason and hopeless.reason.endswith(".")
    assert {outcome.status for outcome in others} == {"finished"}


@given(chosen=st.permutations(range(8)), count=st.integers(1, 8), chunk=st.sampled_from([7, 30]))
@settings(max_examples=8)
def test_position_neighbours_and_chunks_change_nothing(
    pack: tuple[PackWorker, list[Configuration], list[Result]], chosen: list[int], count: int, chunk: int
) -> None:
    worker, members, together = pack
    places = chosen[:count]
    results = run(worker, [members[place] for place in places], 8, members, chunk)
    for place, result in zip(places, results, strict=True):
        assert result.same_as(together[place]), members[place].name


def test_a_program_that_knows_less_gives_the_same(
    pack: tuple[PackWorker, list[Configuration], list[Result]],
) -> None:
    worker, members, together = pack
    for place in (0, 3):
        (alone,) = run(worker, [members[place]], 8)
        assert alone.same_as(together[place]), members[place].name


def test_alone_at_width_one_it_is_the_same_up_to_the_order_of_sums(
    pack: tuple[PackWorker, list[Configuration], list[Result]],
) -> None:
    worker, members, together = pack
    for place in (0, 2):
        (alone,) = run(worker, [members[place]], 1)
        for name in CURVES[:2]:
            np.testing.assert_allclose(
                alone.curves[name], together[place].curves[name], rtol=WIDTH_TOLERANCE, atol=WIDTH_TOLERANCE
            )
        for name, leaf in alone.outcome.leaves.items():
            np.testing.assert_allclose(leaf, together[place].outcome.leaves[name], atol=WIDTH_TOLERANCE)


def test_another_worker_goes_on_where_one_stopped(
    pack: tuple[PackWorker, list[Configuration], list[Result]], toy_setup: Callable[..., Setup]
) -> None:
    worker, members, together = pack
    task = PackTask(0, 8, tuple(members), tuple(members))
    half = worker.advance(task, None, 12)
    fresh = PackWorker(toy_setup())
    rest = fresh.advance(task, half.state, 18)
    repeated = fresh.advance(task, half.state, 18)
    assert rest.state == repeated.state, "a call repeated from the same state gives the same"
    for row, result in enumerate(together):
        joined = np.concatenate(
            [part.curves["train/loss"][: part.after[row] - part.before[row], row] for part in (half, rest)]
        )
        np.testing.assert_array_equal(joined, result.curves["train/loss"])
    for outcome, result in zip(fresh.evaluate(task, rest.state).outcomes, together, strict=True):
        assert all(leaf.equal(result.outcome.leaves[name]) for name, leaf in outcome.leaves.items())
        assert np.array_equal(outcome.elbo, result.outcome.elbo, equal_nan=True)


def test_the_models_python_is_not_called_while_256_configurations_step(
    toy_setup: Callable[..., Setup], configuration: Configure
) -> None:
    worker = PackWorker(toy_setup())
    task = PackTask(0, 256, tuple(configuration(seed=seed) for seed in range(256)))
    first = worker.advance(task, None, 1)
    module = worker.setup.build.load().__globals__
    before = module["CALLS"][0]
    assert before > 0, "the counter counts"
    worker.advance(task, first.state, 3)
    assert module["CALLS"][0] == before


def test_a_model_that_branches_on_a_latent_runs_as_a_loop(
    toy_setup: Callable[..., Setup], configuration: Configure
) -> None:
    worker = PackWorker(toy_setup("build_loop", samples=16))
    one, other = configuration(steps=5), configuration(steps=5, seed=1)
    task = PackTask(0, 8, (one, other))
    chunk = worker.advance(task, None, 5)
    assert (chunk.kind.mode, chunk.kind.compiled) == ("loop", False)
    assert chunk.kind.reason
    assert np.isfinite(chunk.curves["train/elbo"]).all()
