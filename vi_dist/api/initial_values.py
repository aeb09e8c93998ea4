"""Initial values that a user gives in Python, on their way to the workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from vi_dist.cluster.setup import Setup
from vi_dist.errors import SpecError
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.values import show


def with_initial_values(setup: Setup, values: Mapping[Any, Any] | None) -> Setup:
    """The setup with values by latent, or its name."""
    if values is None:
        return setup
    return replace(setup, initial_values={str(name): _array(name, value) for name, value in values.items()})


def check_used(setup: Setup, configurations: Sequence[Configuration]) -> None:
    """Raise `SpecError` for initial values at which no configuration starts."""
    starts = {configuration.initialisation.name for configuration in configurations}
    if setup.initial_values is not None and "values" not in starts:
        raise SpecError(
            f"there are initial values and no guide starts at them, but at {', '.join(sorted(starts))}; write "
            "initialisation: values too",
            key="initial_values",
        )


def _array(name: object, value: object) -> Any:
    try:
        return torch.as_tensor(value).detach().cpu().numpy()
    except (TypeError, ValueError, RuntimeError) as error:
        raise SpecError(
            f"{show(value)} is no number nor an array of them", key=f"initial_values.{name}"
        ) from error
