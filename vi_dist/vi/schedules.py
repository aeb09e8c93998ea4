"""Learning-rate schedules: a factor on the configuration's rate as a function of its own step and number of steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vi_dist.vi.table import Argument, Entry

Schedule = Callable[[Tensor, Tensor, Mapping[str, Tensor]], Tensor]


def _constant(step: Tensor, steps: Tensor, k: Mapping[str, Tensor]) -> Tensor:
    return torch.ones_like(step)


def _cosine(step: Tensor, steps: Tensor, k: Mapping[str, Tensor]) -> Tensor:
    return k["final"] + (1 - k["final"]) * 0.5 * (1 + torch.cos(math.pi * step / steps))


def _exponential(step: Tensor, steps: Tensor, k: Mapping[str, Tensor]) -> Tensor:
    return k["final"] ** (step / steps)


def _warm_up(step: Tensor, steps: Tensor, k: Mapping[str, Tensor]) -> Tensor:
    return ((step + 1) / (k["fraction"] * steps).clamp(min=1.0)).clamp(max=1.0)


def _part(default: float) -> Argument:
    return Argument(float, default, low=0.0, high=1.0)


SCHEDULES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("constant", "the learning rate as it is", lambda: _constant),
        Entry(
            "cosine", "half a cosine down to `final` times the rate", lambda: _cosine, {"final": _part(0.0)}
        ),
        Entry(
            "exponential",
            "geometric decay to `final` times the rate",
            lambda: _exponential,
            {"final": _part(0.01)},
        ),
        Entry(
            "warm_up",
            "linear over the first `fraction` of the steps, then constant",
            lambda: _warm_up,
            {"fraction": _part(0.1)},
        ),
    )
}
