"""Initial values that a user gives in Python, on their way to the workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from vi_dist.cluster.setup import Setup


def with_initial_values(setup: Setup, values: Mapping[Any, Any] | None) -> Setup:
    """The setup with values by latent, or its name."""
    if values is None:
        return setup
    arrays = {str(name): torch.as_tensor(value).detach().cpu().numpy() for name, value in values.items()}
    return replace(setup, initial_values=arrays)
