"""Schedules against torch.optim.lr_scheduler, and their ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import lr_scheduler

from vi_dist.vi.schedules import SCHEDULES

F64 = torch.float64
STEPS = 25


def factors(name: str, steps: int = STEPS, **arguments: float) -> list[float]:
    entry = SCHEDULES[name]
    known = {k: torch.tensor([[arguments.get(k, a.default)]], dtype=F64) for k, a in entry.arguments.items()}
    total = torch.tensor([[float(steps)]], dtype=F64)
    return [
        float(entry.make()(torch.tensor([[float(step)]], dtype=F64), total, known)) for step in range(steps)
    ]


def torch_factors(make: Callable[[torch.optim.Optimizer], Any], steps: int = STEPS) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine(final: float) -> None:
    wanted = torch_factors(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=STEPS, eta_min=final))
    assert factors("cosine", final=final) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("final", [0.01, 0.5])
def test_exponential(final: float) -> None:
    wanted = torch_factors(lambda o: lr_scheduler.ExponentialLR(o, gamma=final ** (1 / STEPS)))
    assert factors("exponential", final=final) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("fraction", [0.2, 0.4])
def test_warm_up(fraction: float) -> None:
    length = int(fraction * STEPS)
    wanted = torch_factors(
        lambda o: lr_scheduler.LinearLR(o, start_factor=1 / length, total_iters=length - 1)
    )
    assert factors("warm_up", fraction=fraction) == pytest.approx(wanted, rel=1e-12)


def test_no_warm_up_is_constant() -> None:
    assert factors("warm_up", fraction=0.0) == factors("constant") == [1.0] * STEPS


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 300])
def test_contract(name: str, steps: int) -> None:
    """At its defaults every factor lies in (0, 1], for any number of steps."""
    found = factors(name, steps)
    assert all(0 < factor <= 1 for factor in found)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_row_has_its_own_clock(name: str) -> None:
    entry = SCHEDULES[name]
    step, total = (
        torch.tensor([[0.0], [3.0], [9.0]], dtype=F64),
        torch.tensor([[10.0], [5.0], [10.0]], dtype=F64),
    )
    known = {k: torch.tensor([[a.default]] * 3, dtype=F64) for k, a in entry.arguments.items()}

    def at(rows: slice) -> Tensor:
        found: Tensor = entry.make()(step[rows], total[rows], {k: v[rows] for k, v in known.items()})
        return found

    together = at(slice(0, 3))
    assert together.shape == (3, 1)
    assert torch.equal(together, torch.cat([at(slice(row, row + 1)) for row in range(3)]))
