"""What only a CUDA device can show; skipped where there is none."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from vi_dist.model.decorators import random_variable
from vi_dist.model.model import Model
from vi_dist.vi.columns import Column
from vi_dist.vi.divergences import amari, kl_forward, kl_reverse
from vi_dist.vi.estimators import dreg, iwae, reparam, self_normalised, stl
from vi_dist.vi.noise import TRAINING, NoiseSite, NoiseSpace, NormalSource
from vi_dist.vi.pack import PackProgram
from vi_dist.vi.replay import Replay

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")

STEPS = 150  # two recordings of 64 steps, and part of a third
FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("mean_field", {}),
    ("full_rank", {}),
    ("low_rank", {"rank": 2}),
    ("student_t", {"df": 5.0}),
    ("mixture", {"components": 2}),
    ("delta", {}),
]


def _model() -> Model:
    torch.manual_seed(0)
    design = torch.randn(60, 4, device="cpu", dtype=torch.float64)
    logits = design @ torch.tensor([1.0, -1.0, 0.5, 0.0], device="cpu", dtype=torch.float64)
    outcome = (torch.rand(60, device="cpu", dtype=torch.float64) < logits.sigmoid()).double()
    # The tests' models are built on the device and in the dtype of what is made in them by default.
    here = torch.zeros(())
    design, outcome = design.to(here), outcome.to(here)

    @random_variable
    def beta() -> Normal:
        return Normal(torch.zeros(4), 1.0)

    @random_variable
    def y() -> Bernoulli:
        return Bernoulli(logits=design @ beta())

    return Model([beta()], {y(): outcome})


def _columns(column: Callable[..., Column]) -> list[Column]:
    """Three that differ in all that may differ; the second stops early."""
    return [
        column(seed=0, estimator=stl, steps=STEPS, schedule=("cosine", {})),
        column(seed=1, divergence=amari(0.5), estimator=reparam, steps=100, averaging=0.2),
        column(
            seed=2,
            divergence=kl_forward,
            estimator=self_normalised,
            steps=STEPS,
            learning_rate=0.01,
            clip=1.0,
        ),
    ]


def _taken(program: PackProgram) -> dict[str, torch.Tensor]:
    state, curves = program.advance(program.start(), STEPS)
    named = {"params": state.params, "averaged": state.averaged, "step": state.step, "loss": curves.loss}
    return {name: tensor.cpu() for name, tensor in named.items()}


@pytest.mark.parametrize("mode", ["never", "always"])
@pytest.mark.parametrize(("family", "arguments"), FAMILIES, ids=[name for name, _ in FAMILIES])
def test_replayed_steps_are_those_of_the_processor(
    engine: Callable[..., Any],
    column: Callable[..., Column],
    family: str,
    arguments: dict[str, Any],
    mode: str,
    tmp_path: Path,
) -> None:
    columns: Sequence[Column] = _columns(column)
    if family == "delta":
        columns = [column(seed=s, estimator=reparam, steps=STEPS, divergence=kl_reverse) for s in range(2)]
    there = engine(_model, family, device="cuda", **arguments).program(columns)
    decision = there.compile(mode, STEPS, tmp_path)
    assert "replayed" in decision.reason
    assert decision.compiled == (mode == "always")
    expected = _taken(engine(_model, family, **arguments).program(columns))
    for name, tensor in _taken(there).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-7, atol=1e-9, equal_nan=True, msg=name)


@pytest.mark.parametrize("mode", ["never", "always"])
def test_refilled_columns_change_nobody_and_are_the_fits_they_would_have_been(
    engine: Callable[..., Any], column: Callable[..., Column], mode: str, tmp_path: Path
) -> None:
    made = engine(_model, "full_rank", torch.float32, "cuda")
    columns = _columns(column)
    new = column(seed=9, divergence=amari(0.7), estimator=reparam, steps=70, learning_rate=0.02)
    packs = [made.program(columns), made.program(columns), made.program([columns[0], new, columns[2]])]
    for pack in packs:
        pack.compile(mode, STEPS, tmp_path)
    refilled, alone, fresh = packs
    state, _ = refilled.advance(refilled.start(), 80)
    state, curves = refilled.advance(refilled.refill(state, {1: new}), 70)
    undisturbed, _ = alone.advance(alone.start(), STEPS)
    of_new, curve = fresh.advance(fresh.start(), 70)
    for row in (0, 2):
        assert torch.equal(state.params[row], undisturbed.params[row])
    assert torch.equal(state.params[1], of_new.params[1])
    assert torch.equal(curves.loss[:, 1], curve.loss[:, 1])


@pytest.mark.parametrize("mode", ["never", "always"])
def test_a_column_is_the_same_bit_for_bit_at_any_place_and_beside_any_others(
    engine: Callable[..., Any], column: Callable[..., Column], mode: str, tmp_path: Path
) -> None:
    made = engine(_model, "mean_field", torch.float32, "cuda")
    ours = column(seed=5, estimator=stl, steps=STEPS)
    others = [
        column(seed=20 + k, estimator=stl, steps=STEPS, learning_rate=0.01 * (1 + k % 7)) for k in range(47)
    ]
    found = []
    for place in (0, 17, 47):
        pack = made.program([*others[:place], ours, *others[place:]])
        pack.compile(mode, STEPS, tmp_path)
        state, _ = pack.advance(pack.start(), STEPS)
        found.append(state.params[place].cpu())
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_bounds_on_the_evidence_take_the_same_steps_too(
    engine: Callable[..., Any], column: Callable[..., Column], tmp_path: Path
) -> None:
    columns = [column(seed=0, estimator=iwae, steps=STEPS), column(seed=1, estimator=dreg, steps=STEPS)]
    there = engine(_model, "full_rank", device="cuda").program(columns)
    there.compile("always", STEPS, tmp_path)
    expected = _taken(engine(_model, "full_rank").program(columns))
    for name, tensor in _taken(there).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-7, atol=1e-9, equal_nan=True, msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_is_the_processors(dtype: torch.dtype) -> None:
    space = NoiseSpace((NoiseSite("mu", 1), NoiseSite("theta", 5), NoiseSite("L", 4)))
    steps = torch.arange(3)[:, None].expand(-1, 2)
    here = NormalSource(space, [3, 4], dtype)(TRAINING, steps, 5)
    there = NormalSource(space, [3, 4], dtype, "cuda")(TRAINING, steps.cuda(), 5)
    torch.testing.assert_close(there.cpu(), here, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=1e-6)


def test_replaying_waits_for_nothing(
    engine: Callable[..., Any], column: Callable[..., Column], tmp_path: Path
) -> None:
    program = engine(_model, "mean_field", torch.float32, "cuda").program(_columns(column))
    program.compile("always", STEPS, tmp_path)
    state, _ = program.advance(program.start(), STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it does not detect everything yet
        torch.cuda.set_sync_debug_mode("error")
    try:
        program.advance(state, STEPS)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_step_that_cannot_be_recorded_says_so() -> None:
    def waits(state: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return state + float(noise.sum()), noise.sum()

    state, noise = torch.zeros(2, device="cuda"), torch.ones(3, device="cuda")
    stream = torch.cuda.current_stream()
    with pytest.raises(RuntimeError):
        Replay(waits, (state, noise), 1, 4)
    assert torch.cuda.current_stream() == stream
    assert float((state + 1).sum()) == 2.0, "the device goes on working"
    after, sums = Replay(lambda x, e: (x + e.sum(), e.sum()), (state, noise), 1, 4)(state, noise.expand(4, 3))
    assert after.tolist() == [12.0, 12.0]
    assert sums.tolist() == [3.0] * 4
