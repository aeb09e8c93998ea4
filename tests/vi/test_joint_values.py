"""The log joint of many rows at once is the log joint of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributions import Distribution, Normal

from vi_dist.model.decorators import random_variable
from vi_dist.model.model import Model
from vi_dist.vi.joint_values import JointValues

F64 = torch.float64


def model() -> Model:
    """Forty data and two latents."""
    x = torch.linspace(-1, 1, 40)

    @random_variable
    def theta() -> Distribution:
        return Normal(torch.zeros(2), 1.0)

    @random_variable
    def y() -> Distribution:
        return Normal(theta()[0] + theta()[1] * x, 0.5)

    return Model([theta()], {y(): x.sin()})


def branching() -> Model:
    """A model whose Python looks at a value."""

    @random_variable
    def theta() -> Distribution:
        return Normal(torch.zeros(()), 1.0)

    @random_variable
    def y() -> Distribution:
        return Normal(theta() if theta() > 0 else -theta(), 0.5)

    return Model([theta()], {y(): torch.tensor(0.3)})


@pytest.mark.parametrize("build", [model, branching])
@pytest.mark.parametrize("rows", [1, 15, 4096 + 3])
def test_each_row_has_its_own_value_however_many_there_are(
    build: Callable[[], Model], rows: int, engine: Callable[..., Any]
) -> None:
    made = engine(build)
    values = JointValues(made.joint, made.layout.size)
    z = torch.randn(rows if build is model else min(rows, 15), made.layout.size, dtype=F64)
    expected = torch.stack([made.density(row) for row in z[:20]])
    torch.testing.assert_close(values(z)[:20], expected, rtol=1e-12, atol=1e-12)
    assert values(z).shape == z.shape[:1]


def test_neighbours_do_not_change_a_row(engine: Callable[..., Any]) -> None:
    made = engine(model)
    values = JointValues(made.joint, made.layout.size)
    z = torch.randn(values.batch + 5, 2, dtype=F64)
    assert torch.equal(values(z)[3:7], values(z[3:7]))
    spoiled = z.clone()
    spoiled[0] = torch.nan
    assert torch.equal(values(spoiled)[1:], values(z)[1:])


def test_batches_are_as_large_as_their_intermediates_allow(engine: Callable[..., Any]) -> None:
    made = engine(model)
    assert made.joint.widest >= 40
    few = JointValues(made.joint, 2)
    assert few.batch * made.joint.widest <= 1 << 17
    assert few.batch >= 16


@pytest.mark.slow
def test_compiled_values_are_the_same(engine: Callable[..., Any], tmp_path: Path) -> None:
    made = engine(model)
    plain, compiled = (JointValues(made.joint, 2) for _ in range(2))
    assert compiled.compile("always", 1, tmp_path).compiled
    z = torch.randn(50, 2, dtype=F64)
    torch.testing.assert_close(compiled(z), plain(z), rtol=1e-12, atol=1e-12)
    assert torch.equal(compiled(z)[7:9], compiled(z[7:9]))


def test_a_loop_is_not_compiled_and_says_why(engine: Callable[..., Any]) -> None:
    decision = JointValues(engine(branching).joint, 1).compile("always", 10**9)
    assert not decision.compiled
    assert "loop" in decision.reason
