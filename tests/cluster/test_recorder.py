"""What is recorded of a sweep does not depend on the order in which its packs end."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.recorder import Recorder
from vi_dist.cluster.task import Outcome, PackTask
from vi_dist.cluster.timings import Timings
from vi_dist.sweep.configuration import Configuration
from vi_dist.tracking.records import Metrics

ELBOS = (-3.0, math.nan, -1.0, -2.0, -0.5)


def best(order: tuple[int, ...], runs: list[PackRun]) -> list[tuple[int, float]]:
    """Steps and values of the best ELBO so far when packs end in this order."""
    records: list[Any] = []
    tracker = SimpleNamespace(write=lambda *some: records.extend(some))
    configurations = [one for run in runs for one in run.task.configurations]
    recorder = Recorder(tracker, configurations, "abcde", Timings())  # type: ignore[arg-type]
    for place in order:
        recorder.pack_ended(runs[place])
    points = [record.points for record in records if isinstance(record, Metrics) and record.key is None]
    return [(step, value) for ((name, step, value, _),) in points if name == "best/elbo"]


@pytest.fixture
def runs(configuration: Callable[..., Configuration]) -> list[PackRun]:
    """Packs of one configuration each, which have ended; the second one has diverged."""
    made = []
    for place, elbo in enumerate(ELBOS):
        run = PackRun(PackTask(place, 1, (configuration(seed=place),)), (place,))
        status = "diverged" if math.isnan(elbo) else "finished"
        run.outcomes = (Outcome(status, "", steps=30, elbo=elbo),)
        made.append(run)
    return made


def test_the_best_so_far_is_the_same_in_any_order(runs: list[PackRun]) -> None:
    found = {tuple(best(order, runs)) for order in itertools.permutations(range(len(runs)))}
    assert found == {((1, -3.0), (3, -1.0), (5, -0.5))}


def test_the_best_so_far_waits_for_what_was_interrupted(runs: list[PackRun]) -> None:
    """Its value comes when the sweep is resumed, at its own step."""
    runs[2].outcomes = (Outcome("interrupted", "", steps=10),)
    assert best((4, 2, 1, 0, 3), runs) == [(1, -3.0)]
