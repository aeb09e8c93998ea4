"""Guides by the curvature of the whole model, whose rows are cut: the mode, its root and the fit of one worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vi_dist.cluster.setup import Setup
from vi_dist.cluster.shard_worker import ShardWorker
from vi_dist.cluster.sharding import Sharding
from vi_dist.cluster.task import Outcome, PackTask
from vi_dist.cluster.worker import PackWorker
from vi_dist.sweep.configuration import Configuration

Configure = Callable[..., Configuration]
STEPS = 40
# Two fits each: a Laplace approximation is settled one by one, a whitened guide is placed for all.
GUIDES = [{"full_rank": {"whiten": True}}, "laplace"]


def outcomes(worker: Any, configuration: Configure, guide: Any) -> tuple[Outcome, ...]:
    members = [configuration(guide=guide, seed=seed, steps=STEPS, dtype="float64") for seed in (0, 1)]
    task = PackTask(0, 8, tuple(members))
    found: tuple[Outcome, ...] = worker.evaluate(task, worker.advance(task, None, STEPS).state).outcomes
    return found


@pytest.mark.parametrize("guide", GUIDES, ids=["whitened", "laplace"])
@pytest.mark.parametrize("count", [3])
def test_shards_find_the_mode_and_the_fit_of_one_worker(
    toy_setup: Callable[..., Setup], configuration: Configure, guide: Any, count: int
) -> None:
    setup = toy_setup()
    whole = outcomes(PackWorker(setup), configuration, guide)
    cut = ShardWorker(replace(setup, shards=Sharding(count)), range(count))
    for mine, other in zip(outcomes(cut, configuration, guide), whole, strict=True):
        assert mine.reason == other.reason
        assert mine.leaves.keys() == other.leaves.keys()
        for name, leaf in mine.leaves.items():
            torch.testing.assert_close(leaf, other.leaves[name], rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose((mine.elbo, mine.khat), (other.elbo, other.khat), rtol=1e-8)
