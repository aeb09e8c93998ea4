"""Every optimizer equals its namesake in torch.optim, step by step, for every row with its own coefficients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from vi_dist.vi.optimizers import OPTIMIZERS, clip

F64 = torch.float64
STEPS, SIZE = 40, 7


@dataclass(frozen=True)
class Case:
    """An optimizer, its peer in torch, and coefficients for one row each, rates included."""

    name: str
    peer: Callable[..., torch.optim.Optimizer]
    rows: tuple[dict[str, float], ...]


def adamw(params: list[Tensor], rate: float, k: dict[str, float]) -> torch.optim.Optimizer:
    betas = (k["beta1"], k["beta2"])
    return torch.optim.AdamW(params, rate, betas, eps=k["eps"], weight_decay=k["weight_decay"])


CASES = [
    Case(
        "adam",
        lambda p, rate, k: torch.optim.Adam(p, rate, (k["beta1"], k["beta2"]), eps=k["eps"]),
        ({}, {"beta1": 0.5}, {"beta2": 0.9, "eps": 1e-3}, {"beta1": 0.0}),
    ),
    Case("adam", adamw, ({}, {"weight_decay": 0.3}, {"weight_decay": 0.01, "beta1": 0.95, "beta2": 0.99})),
    Case(
        "sgd",
        lambda p, rate, k: torch.optim.SGD(p, rate, momentum=k["momentum"], weight_decay=k["weight_decay"]),
        ({}, {"momentum": 0.9}, {"momentum": 0.5, "weight_decay": 0.2}, {"weight_decay": 0.7}),
    ),
    Case(
        "rmsprop",
        lambda p, rate, k: torch.optim.RMSprop(
            p, rate, alpha=k["alpha"], eps=k["eps"], momentum=k["momentum"]
        ),
        ({}, {"momentum": 0.9}, {"alpha": 0.8, "eps": 1e-2}, {"alpha": 0.5, "momentum": 0.3}),
    ),
    Case(
        "adagrad",
        lambda p, rate, k: torch.optim.Adagrad(p, rate, eps=k["eps"]),
        ({}, {"eps": 1e-2}, {"eps": 0.5}),
    ),
]


def gradients(rows: int) -> Tensor:
    """Random gradients `(STEPS, C, P)` over many orders of magnitude."""
    size = torch.logspace(-6, 3, SIZE, dtype=F64)
    return torch.randn(STEPS, rows, SIZE, dtype=F64) * size


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_torch_step_by_step(case: Case) -> None:
    entry = OPTIMIZERS[case.name]
    optimizer = entry.make()
    defaults = {name: argument.default for name, argument in entry.arguments.items()}
    filled = [{**defaults, **row} for row in case.rows]
    rows = len(filled)
    rates = torch.logspace(-3, -1, rows, dtype=F64)[:, None]
    known = {
        name: torch.tensor([[row[name]] for row in filled], dtype=F64) for name in optimizer.coefficients
    }
    params = torch.randn(rows, SIZE, dtype=F64)
    buffers = tuple(torch.zeros(optimizer.buffers, rows, SIZE, dtype=F64))
    peers = [params[row].clone().requires_grad_() for row in range(rows)]
    theirs = [case.peer([peers[row]], float(rates[row]), filled[row]) for row in range(rows)]
    for step, gradient in enumerate(gradients(rows)):
        count = torch.full((rows, 1), step + 1.0, dtype=F64)
        params, buffers = optimizer.update(params, gradient, buffers, rates, count, known)
        for row in range(rows):
            peers[row].grad = gradient[row].clone()
            theirs[row].step()
        torch.testing.assert_close(params, torch.stack(peers).detach(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_contract(name: str) -> None:
    """A row sees only itself, zero rate moves nothing, and the buffers are as many as announced."""
    entry = OPTIMIZERS[name]
    optimizer = entry.make()
    assert optimizer.name == name
    assert set(optimizer.coefficients) == set(entry.arguments)
    known = {k: torch.full((3, 1), a.default, dtype=F64) for k, a in entry.arguments.items()}
    params, gradient = torch.randn(3, SIZE, dtype=F64), torch.randn(3, SIZE, dtype=F64)
    buffers = tuple(torch.rand(optimizer.buffers, 3, SIZE, dtype=F64))
    rate, count = torch.tensor([[0.1], [0.0], [0.2]], dtype=F64), torch.full((3, 1), 4.0, dtype=F64)
    moved, kept = optimizer.update(params, gradient, buffers, rate, count, known)
    assert len(kept) == optimizer.buffers
    assert torch.equal(moved[1], params[1])
    assert not torch.equal(moved[0], params[0])
    spoiled = gradient.clone()
    spoiled[2] = torch.nan
    again, _ = optimizer.update(params, spoiled, buffers, rate, count, known)
    assert torch.equal(again[:2], moved[:2])


@pytest.mark.parametrize("limit", [0.5, 5.0, 1e9, float("inf")])
def test_clipping_is_clip_grad_norm(limit: float) -> None:
    gradient = torch.randn(6, SIZE, dtype=F64) * torch.logspace(-3, 3, 6, dtype=F64)[:, None]
    clipped, norm = clip(gradient, torch.full((6, 1), limit, dtype=F64))
    for row in range(6):
        peer = torch.zeros(SIZE, dtype=F64, requires_grad=True)
        peer.grad = gradient[row].clone()
        expected = torch.nn.utils.clip_grad_norm_([peer], limit)
        torch.testing.assert_close(norm[row], expected, rtol=1e-13, atol=0)
        torch.testing.assert_close(clipped[row], peer.grad, rtol=1e-13, atol=0)


def test_limits_differ_between_rows() -> None:
    gradient = torch.ones(3, 4, dtype=F64)
    clipped, norm = clip(gradient, torch.tensor([[1.0], [2.0], [float("inf")]], dtype=F64))
    assert norm.tolist() == [2.0] * 3
    torch.testing.assert_close(
        clipped.square().sum(-1).sqrt(), torch.tensor([1.0, 2.0, 2.0], dtype=F64), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_has_such_a_norm(bad: float) -> None:
    gradient: Any = torch.ones(2, 3, dtype=F64)
    gradient[0, 1] = bad
    clipped, norm = clip(gradient, torch.full((2, 1), 1.0, dtype=F64))
    assert norm.isfinite().tolist() == [False, True]
    assert bool(clipped[1].isfinite().all())
