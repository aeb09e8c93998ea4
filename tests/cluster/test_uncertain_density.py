"""A guide whose log density float64 cannot tell: it counts as diverged, says why, and harms nobody."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from vi_dist.cluster.driver import Driver
from vi_dist.cluster.inline_executor import InlineExecutor
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.rungs import Rungs
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import Chunk, PackTask
from vi_dist.cluster.worker import PackWorker
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.halving import Halving, Rung
from vi_dist.sweep.plan import plan
from vi_dist.vi.state import PackState

Configure = Callable[..., Configuration]
MakeSetup = Callable[..., Setup]

GUIDE = {"mixture": {"components": 2, "full_rank": True}}
# Three coordinates: what stands below the diagonal of two components, so large that no solve keeps a digit.
WILD = torch.tensor([1e9, 0.0, 1e9, 1e9, 0.0, -1e9])


def ruined(content: bytes, row: int) -> bytes:
    """A pack's state with these factors in one of its columns."""
    state = PackState.from_bytes(content)

    def with_wild(params: Tensor) -> Tensor:
        params = params.clone()
        params[row, 12:18] = WILD.to(params)  # after two components' three locations and three scales
        return params

    changed = {name: with_wild(getattr(state, name)) for name in ("params", "averaged")}
    return replace(state, **changed).to_bytes()


@pytest.fixture(scope="module")
def members(configuration: Configure) -> list[Configuration]:
    return [configuration(guide=GUIDE, seed=seed, steps=40) for seed in range(4)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_named_and_its_neighbours_keep_their_bits(
    toy_setup: MakeSetup, configuration: Configure, dtype: str
) -> None:
    members = tuple(configuration(dtype, guide=GUIDE, seed=seed, steps=40) for seed in range(4))
    task, worker = PackTask(0, 4, members, members, 40), PackWorker(toy_setup())
    state = worker.advance(task, None, 40).state
    sound, found = (worker.evaluate(task, one).outcomes for one in (state, ruined(state, 2)))
    assert [one.status for one in sound] == ["finished"] * 4
    wreck = found[2]
    assert (wreck.status, math.isnan(wreck.elbo), math.isnan(wreck.iw_elbo)) == ("diverged", True, True)
    assert "unknown by more than a nat" in wreck.reason
    assert "of 256 draws" in wreck.reason
    for row in (0, 1, 3):
        assert (found[row].elbo, found[row].khat) == (sound[row].elbo, sound[row].khat)


class Ruining(InlineExecutor):
    """Ruins one column of the first pack after its last steps before the first rung."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._steps = steps

    def result(self, handle: Any) -> Any:
        found = super().result(handle)
        if isinstance(found, Chunk) and int(found.after.max()) == self._steps:
            return replace(found, state=ruined(found.state, 2))
        return found


def test_at_a_rung_it_leaves_and_pushes_nobody_out(
    toy_setup: MakeSetup, members: list[Configuration]
) -> None:
    ranked: list[Rung] = []
    rungs = Rungs(members, plan(members, 4), Halving(2, 10), 256, ranked=ranked.append)
    driver = Driver(rungs.first, toy_setup(), Ruining(10), follow=rungs)
    driver.run()
    first = ranked[0]
    assert (first.entered, first.kept, sorted(first.values)) == (4, 2, [0, 1, 3])
    ends = {place: outcome for run in driver.runs for place, outcome in _ends(run)}
    assert (ends[2].status, ends[2].steps) == ("diverged", 10)
    assert sum(one.status == "finished" for one in ends.values()) == 1


def _ends(run: PackRun) -> list[tuple[int, Any]]:
    return [pair for pair in zip(run.members, run.outcomes or (), strict=True) if pair[1].over]
