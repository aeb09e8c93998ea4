"""A worker keeps the programs that it has made, and is given the packs that they serve."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest
import torch

from vi_dist.cluster.driver import Driver
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.prepared import PreparedModel
from vi_dist.cluster.programs import Programs
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import PackTask
from vi_dist.sweep.configuration import Configuration

Configure = Callable[..., Configuration]
MakeSetup = Callable[..., Setup]


def test_a_program_comes_back_with_the_packs_own_columns(
    toy_setup: MakeSetup, configuration: Configure
) -> None:
    programs = Programs("never", torch.device("cpu"))
    prepared = PreparedModel(toy_setup(), torch.float32)
    first, again = (PackTask(k, 8, (configuration(seed=k, steps=10 + k),)) for k in range(2))
    other = PackTask(2, 8, (configuration(guide="full_rank"),))
    made = programs.get(first, prepared)
    assert programs.get(other, prepared) is not made
    assert programs.get(again, prepared) is made
    assert (made.columns[0].seed, made.columns[0].steps) == (1, 11)
    assert programs.get(first, prepared) is made
    assert (made.columns[0].seed, made.columns[0].steps) == (0, 10)


def test_only_so_many_are_kept(
    toy_setup: MakeSetup, configuration: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vi_dist.cluster.programs.KEPT", 1)
    programs = Programs("never", torch.device("cpu"))
    prepared = PreparedModel(toy_setup(), torch.float32)
    one, two = PackTask(0, 1, (configuration(),)), PackTask(1, 1, (configuration(guide="full_rank"),))
    made = programs.get(one, prepared)
    programs.get(two, prepared)
    assert programs.get(one, prepared) is not made


def test_packs_go_to_workers_that_have_their_program(
    toy_setup: MakeSetup, configuration: Configure, scrambled: Callable[..., Any]
) -> None:
    guides = ("mean_field", "full_rank") * 3
    runs = [
        PackRun(PackTask(k, 8, (configuration(guide=guide, seed=k),)), (k,)) for k, guide in enumerate(guides)
    ]
    executor = scrambled(2, seed=0)
    served: dict[int, list[str]] = defaultdict(list)

    submitted = executor.submit

    def submit(worker: int, method: str, *arguments: Any) -> Any:
        if method == "advance":
            served[worker].append(arguments[0].configurations[0].guide.name)
        return submitted(worker, method, *arguments)

    executor.submit = submit
    Driver(runs, toy_setup(), executor).run()
    assert all(run.outcomes is not None for run in runs)
    # Only when its own are done does a worker begin with what is left of the others.
    assert len(served) == 2
    assert {names[0] for names in served.values()} == {"mean_field", "full_rank"}
    assert all(len(list(groupby(names))) <= 2 for names in served.values()), served
