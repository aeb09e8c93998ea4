"""A configuration as MLflow's params."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from vi_dist.sweep.configuration import Choice, Configuration

COMPARED = frozenset(
    (
        "guide.family",
        "divergence",
        "estimator",
        "optim.name",
        "optim.lr",
        "optim.log10_lr",
        "num_samples",
        "steps",
        "seed",
    )
)
"""Params that every run has, however many runs there are, so that runs of several sweeps can be compared."""


def run_params(configuration: Configuration) -> dict[str, Any]:
    """A configuration as MLflow's params; what is compared keeps its whole name (``amari(alpha=0.5)``)."""
    rate = configuration.learning_rate
    return {
        "guide.family": configuration.guide.name,
        **_arguments("guide", configuration.guide),
        "divergence": str(configuration.divergence),
        **_arguments("divergence", configuration.divergence),
        "estimator": str(configuration.estimator),
        "optim.name": configuration.optimizer.name,
        **_arguments("optim", configuration.optimizer),
        "optim.lr": rate,
        "optim.log10_lr": round(math.log10(rate), 6),
        "optim.schedule": str(configuration.schedule),
        "num_samples": configuration.num_samples,
        "steps": configuration.steps,
        "initialisation": configuration.initialisation.name,
        "averaging": configuration.averaging,
        "seed": configuration.seed,
        "dtype": configuration.dtype,
    }


def varying(configurations: Iterable[Configuration]) -> frozenset[str]:
    """Names of the params that differ between configurations; one that only some of them have differs."""
    values: dict[str, list[Any]] = {}
    total = 0
    for configuration in configurations:
        total += 1
        for name, value in run_params(configuration).items():
            values.setdefault(name, []).append(value)
    return frozenset(name for name, found in values.items() if len(found) < total or len(set(found)) > 1)


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted names.

    >>> flattened({"name": "a", "space": {"seed": [0, 1]}})
    {'name': 'a', 'space.seed': [0, 1]}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= (
            flattened(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
        )
    return flat


def _arguments(prefix: str, choice: Choice) -> dict[str, Any]:
    return {f"{prefix}.{name}": value for name, value in choice.arguments}
