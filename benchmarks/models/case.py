"""A model of the benchmarks with everything that a fair comparison shares between the sides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vi_dist import Model

Array = npt.NDArray[Any]


def _none() -> dict[str, Array]:
    return {}


@dataclass(frozen=True)
class Case:
    """A model in three languages, its data, and how it is trained before ELBOs are compared.

    Attributes:
        data: the arrays that all three forms get, floats in float64.
        build: the vi_dist form.
        numpyro_model, pyro_model: the peers' forms; they import their package when called.
        rows: length of the data's longest axis.
        learning_rate: Adam's, of the training run before the comparison; timed columns differ around it.
        check_steps: steps of that run.
        sample_seconds: roughly what one sample of one step costs; sets the length of timed slices, nothing else.
        start: where guides start, by latent, where the prior's median will not do; latents on the real line only.
    """

    name: str
    data: Callable[[], dict[str, Array]]
    build: Callable[[dict[str, Tensor]], Model]
    numpyro_model: Callable[[Mapping[str, Any]], None]
    pyro_model: Callable[[Mapping[str, Any]], None]
    rows: int
    learning_rate: float
    check_steps: int
    sample_seconds: float
    start: Callable[[], dict[str, Array]] = field(default=_none)


def load(path: str) -> dict[str, Array]:
    """The arrays of an `.npz` file."""
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}
