"""Promise 1: a configuration's result does not depend on where it ran, nor on its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
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


@dataclass(frozen=True)
class Together:
    """A worker, eight configurations, and what becomes of them in one pack of width 8."""

    worker: PackWorker
    members: list[Configuration]
    results: list[Result]


@pytest.fixture(scope="module")
def together(toy_setup: Callable[..., Setup], configuration: Configure) -> Callable[[str, str], Together]:
    """``together(family, mode)``, once each."""

    @cache
    def made(family: str, mode: str) -> Together:
        members = mixed(configuration, family)
        worker = PackWorker(toy_setup(compile=mode))
        return Together(worker, members, run(worker, members, 8, members))

    return made


@pytest.fixture(params=FAMILIES)
def eager(request: pytest.FixtureRequest, together: Callable[[str, str], Together]) -> Together:
    return together(request.param, "never")


@pytest.fixture(
    params=[
        *((family, "never") for family in FAMILIES),
        pytest.param(("mean_field", "always"), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def pack(request: pytest.FixtureRequest, together: Callable[[str, str], Together]) -> Together:
    return together(*request.param)


def test_the_hopeless_one_is_named_and_the_others_finish(pack: Together) -> None:
    *others, hopeless = (result.outcome for result in pack.results)
    assert hopeless.status == "diverged"
    assert "Diverged at step" in hopeless.reason and hopeless.reason.endswith(".")
    assert {outcome.status for outcome in others} == {"finished"}


@given(chosen=st.permutations(range(8)), count=st.integers(1, 8), chunk=st.sampled_from([7, 30]))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_position_neighbours_and_chunks_change_nothing(
    pack: Together, chosen: list[int], count: int, chunk: int
) -> None:
    """Bitwise, at one width; a compiled program takes 64 steps in a call, whatever the chunk."""
    places = chosen[:count]
    results = run(pack.worker, [pack.members[place] for place in places], 8, pack.members, chunk)
    for place, result in zip(places, results, strict=True):
        assert result.same_as(pack.results[place]), pack.members[place].name


def test_a_program_that_knows_less_gives_the_same(eager: Together) -> None:
    """Bitwise for flat graphs; a compiler fuses another program in another way (the next test's tolerance)."""
    for place in (0, 3):
        (alone,) = run(eager.worker, [eager.members[place]], 8)
        assert alone.same_as(eager.results[place]), eager.members[place].name


def test_alone_at_width_one_it_is_the_same_up_to_the_order_of_sums(eager: Together) -> None:
    for place in (0, 2):
        (alone,) = run(eager.worker, [eager.members[place]], 1)
        assert_close(alone, eager.results[place])


@pytest.mark.slow
def test_compiled_it_is_the_same_up_to_the_order_of_sums(together: Callable[[str, str], Together]) -> None:
    compiled, eager = together("mean_field", "always"), together("mean_field", "never")
    kind = compiled.worker.advance(
        PackTask(0, 8, tuple(compiled.members), tuple(compiled.members)), None, 1
    ).kind
    assert kind.compiled
    for place in range(7):
        assert_close(compiled.results[place], eager.results[place])


def assert_close(one: Result, other: Result) -> None:
    for name in CURVES[:2]:
        np.testing.assert_allclose(
            one.curves[name], other.curves[name], rtol=WIDTH_TOLERANCE, atol=WIDTH_TOLERANCE
        )
    for name, leaf in one.outcome.leaves.items():
        np.testing.assert_allclose(leaf, other.outcome.leaves[name], atol=WIDTH_TOLERANCE)


def test_another_worker_goes_on_where_one_stopped(pack: Together) -> None:
    members = pack.members
    task = PackTask(0, 8, tuple(members), tuple(members))
    half = pack.worker.advance(task, None, 12)
    fresh = PackWorker(pack.worker.setup)
    rest = fresh.advance(task, half.state, 18)
    repeated = fresh.advance(task, half.state, 18)
    assert rest.state == repeated.state, "a call repeated from the same state gives the same"
    for row, result in enumerate(pack.results):
        joined = np.concatenate(
            [part.curves["train/loss"][: part.after[row] - part.before[row], row] for part in (half, rest)]
        )
        np.testing.assert_array_equal(joined, result.curves["train/loss"])
    for outcome, result in zip(fresh.evaluate(task, rest.state).outcomes, pack.results, strict=True):
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
