"""Optimizers over a leading axis of configurations, each equal to its namesake in `torch.optim` step by step.

An optimizer is a pure update: (params, gradient, buffers, rate, count, coefficients) -> (params, buffers), all rows of
`(C, P)` at once; count, the number of updates including this one, rates and coefficients are `(C, 1)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from vi_dist.vi.table import Argument, Entry

Buffers = tuple[Tensor, ...]
Update = Callable[[Tensor, Tensor, Buffers, Tensor, Tensor, Mapping[str, Tensor]], tuple[Tensor, Buffers]]


@dataclass(frozen=True)
class Optimizer:
    """An update rule, the number of `(C, P)` buffers it keeps, and its coefficients' names."""

    name: str
    update: Update
    buffers: int
    coefficients: tuple[str, ...]


def _adam(
    params: Tensor, gradient: Tensor, buffers: Buffers, rate: Tensor, count: Tensor, k: Mapping[str, Tensor]
) -> tuple[Tensor, Buffers]:
    mean, square = buffers
    mean = mean + (gradient - mean) * (1 - k["beta1"])
    square = square * k["beta2"] + gradient * gradient * (1 - k["beta2"])
    corrected = (square / (1 - k["beta2"] ** count)).sqrt() + k["eps"]
    params = params * (1 - rate * k["weight_decay"])
    return params - rate / (1 - k["beta1"] ** count) * (mean / corrected), (mean, square)


def _sgd(
    params: Tensor, gradient: Tensor, buffers: Buffers, rate: Tensor, count: Tensor, k: Mapping[str, Tensor]
) -> tuple[Tensor, Buffers]:
    gradient = gradient + k["weight_decay"] * params
    velocity = k["momentum"] * buffers[0] + gradient
    return params - rate * velocity, (velocity,)


def _rmsprop(
    params: Tensor, gradient: Tensor, buffers: Buffers, rate: Tensor, count: Tensor, k: Mapping[str, Tensor]
) -> tuple[Tensor, Buffers]:
    square = buffers[0] * k["alpha"] + gradient * gradient * (1 - k["alpha"])
    velocity = k["momentum"] * buffers[1] + gradient / (square.sqrt() + k["eps"])
    return params - rate * velocity, (square, velocity)


def _adagrad(
    params: Tensor, gradient: Tensor, buffers: Buffers, rate: Tensor, count: Tensor, k: Mapping[str, Tensor]
) -> tuple[Tensor, Buffers]:
    total = buffers[0] + gradient * gradient
    return params - rate * gradient / (total.sqrt() + k["eps"]), (total,)


def _entry(
    name: str, description: str, update: Update, buffers: int, arguments: Mapping[str, Argument]
) -> Entry:
    made = Optimizer(name, update, buffers, tuple(arguments))
    return Entry(name, description, lambda: made, arguments)


def _fraction(default: float) -> Argument:
    # At 1 an average takes in nothing new.
    return Argument(float, default, low=0.0, high=0.999999)


_EPS = Argument(float, 1e-8, low=0.0, high=1e3)
_DECAY = Argument(float, 0.0, low=0.0, high=1e3)

OPTIMIZERS: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        _entry(
            "adam",
            "Adam; weight_decay is decoupled (AdamW)",
            _adam,
            2,
            {"beta1": _fraction(0.9), "beta2": _fraction(0.999), "eps": _EPS, "weight_decay": _DECAY},
        ),
        _entry(
            "sgd",
            "stochastic gradient descent with momentum",
            _sgd,
            1,
            {"momentum": _fraction(0.0), "weight_decay": _DECAY},
        ),
        _entry(
            "rmsprop",
            "RMSProp with momentum",
            _rmsprop,
            2,
            {"alpha": _fraction(0.99), "eps": _EPS, "momentum": _fraction(0.0)},
        ),
        _entry("adagrad", "Adagrad", _adagrad, 1, {"eps": Argument(float, 1e-10, low=0.0, high=1e3)}),
    )
}


def clip(gradient: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients `(C, P)` scaled to at most the norm limit `(C, 1)`, and their norms before that, `(C,)`."""
    norm = gradient.square().sum(-1).sqrt()
    factor = (limit / (norm[:, None] + 1e-6)).clamp(max=1.0)
    return gradient * factor, norm
