"""Draws from a guide, and their way into the model's own space."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Dirichlet, Distribution, Gamma, Normal, Uniform

from vi_dist.model.decorators import functional, param, random_variable
from vi_dist.model.model import Model
from vi_dist.vi.context import model_context
from vi_dist.vi.noise import SAMPLING, TRAINING, NormalSource
from vi_dist.vi.sampling import BATCH, draw_flat, make_constrain

F64 = torch.float64


class Chain:
    """Latents of three supports, a param, a functional of them all."""

    @param
    def eta(self) -> Tensor:
        return torch.tensor(0.25)

    @random_variable
    def scale(self) -> Distribution:
        return Gamma(2.0, 1.0)

    @random_variable
    def below(self) -> Distribution:
        return Uniform(0.0, self.scale())

    @random_variable
    def weights(self) -> Distribution:
        return Dirichlet(torch.ones(3))

    @functional
    def total(self) -> Tensor:
        return self.weights() * self.below() + self.eta()

    @functional
    def biggest(self) -> Tensor:
        return self.weights().argmax()

    @random_variable
    def y(self) -> Distribution:
        return Normal(self.below(), 1.0)

    def model(self) -> Model:
        return Model(
            [self.scale(), self.weights(), self.total(), self.biggest()], {self.y(): torch.tensor(0.5)}
        )


@pytest.fixture
def chain(engine: Callable[..., Any]) -> Any:
    return engine(Chain().model, "full_rank")


def leaves_of(made: Any) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    first = made.family.initial(made.layout.loc)
    return {k: v + 0.3 * torch.randn(v.shape, generator=generator, dtype=F64) for k, v in first.items()}


def test_draws_are_the_guide_s_from_their_own_noise(chain: Any) -> None:
    leaves, eta = leaves_of(chain), torch.tensor([1.5], dtype=F64)
    rows = draw_flat(chain.family, leaves, eta, 7, seed=3)
    assert rows.shape == (7, chain.layout.size + 1)
    assert rows[:, -1].tolist() == [1.5] * 7
    source = NormalSource(chain.family.noise, [3], F64)
    z = chain.family.draw({k: v[None] for k, v in leaves.items()}, source(SAMPLING, torch.zeros(1, 1), 7)[0])[
        0
    ]
    assert torch.equal(rows[:, :-1], z)
    training = chain.family.draw(
        {k: v[None] for k, v in leaves.items()}, source(TRAINING, torch.zeros(1, 1), 7)[0]
    )
    assert not torch.isin(rows[:, :-1], training).any()
    assert not rows.requires_grad


def test_a_draw_depends_on_seed_and_number_alone(chain: Any) -> None:
    leaves, nothing = leaves_of(chain), torch.zeros(0, dtype=F64)
    many = draw_flat(chain.family, leaves, nothing, 2 * BATCH + 3, seed=1)
    for n in (1, 5, BATCH, BATCH + 1):
        torch.testing.assert_close(
            draw_flat(chain.family, leaves, nothing, n, seed=1), many[:n], rtol=1e-13, atol=1e-13
        )
    assert not torch.isin(draw_flat(chain.family, leaves, nothing, 5, seed=2), many).any()
    assert draw_flat(chain.family, leaves, nothing, 0).shape == (0, chain.layout.size)
    assert many.unique(dim=0).shape[0] == len(many)


def test_the_generator_of_torch_is_left_alone(chain: Any) -> None:
    before = torch.get_rng_state()
    draw_flat(chain.family, leaves_of(chain), torch.zeros(0, dtype=F64), 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_values_are_the_world_s(chain: Any, caplog: pytest.LogCaptureFixture) -> None:
    flat = torch.cat((chain.layout.loc, chain.layout.eta))
    constrain = make_constrain(chain.density, flat)
    assert constrain.graph is not None
    assert not caplog.records
    rows = draw_flat(chain.family, leaves_of(chain), chain.layout.eta, 6)
    values = constrain(rows)
    assert list(values) == ["scale", "weights", "total", "biggest"]
    with model_context(F64):
        plain = [chain.density.constrain(row) for row in rows]
    for name, value in values.items():
        torch.testing.assert_close(value, torch.stack([one[name] for one in plain]), rtol=1e-13, atol=1e-13)
    assert values["weights"].shape == (6, 3)
    assert bool((values["scale"] > 0).all())
    torch.testing.assert_close(values["weights"].sum(-1), torch.ones(6, dtype=F64))
    assert values["biggest"].dtype == torch.int64


def test_queries_with_control_flow_are_computed_one_by_one(
    engine: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    theta = random_variable(lambda: Normal(0.0, 1.0))
    sign = functional(lambda: torch.ones(()) if theta() > 0 else -torch.ones(()))
    made = engine(lambda: Model([sign()], {}))
    with caplog.at_level(logging.WARNING):
        constrain = make_constrain(made.density, made.layout.loc)
    assert constrain.graph is None
    assert len(caplog.records) == 1
    (values,) = constrain(torch.tensor([[0.3], [-2.0], [1.0]], dtype=F64)).values()
    assert values.tolist() == [1.0, -1.0, 1.0]
    assert constrain(torch.zeros(0, 1, dtype=F64)) == {}


def test_queries_that_read_a_value_are_caught(
    engine: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    theta = random_variable(lambda: Normal(0.0, 1.0))
    baked = functional(lambda: torch.tensor(theta().tolist()) + 1)
    made = engine(lambda: Model([baked()], {}))
    with caplog.at_level(logging.WARNING):
        constrain = make_constrain(made.density, made.layout.loc)
    assert constrain.graph is None
    assert "read a value in Python" in caplog.text
    (values,) = constrain(torch.tensor([[0.5], [-2.0]], dtype=F64)).values()
    assert values.tolist() == [1.5, -1.0]
