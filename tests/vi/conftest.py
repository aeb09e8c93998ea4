"""What the tests of the engine share: a model made ready, and columns with their defaults filled in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from vi_dist.model.model import Model
from vi_dist.vi.columns import Column
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density
from vi_dist.vi.divergences import kl_reverse
from vi_dist.vi.estimators import reparam
from vi_dist.vi.guides.family import Family
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.layout import Layout, make_layout
from vi_dist.vi.optimizers import OPTIMIZERS
from vi_dist.vi.pack import PackProgram
from vi_dist.vi.trace import JointProgram, trace_joint


@dataclass(frozen=True)
class Engine:
    """A model laid out and traced, with a guide family over it."""

    model: Model
    layout: Layout
    density: Density
    joint: JointProgram
    family: Family
    dtype: torch.dtype
    device: str

    def program(
        self,
        columns: Sequence[Column],
        width: int | None = None,
        *,
        samples: int = 4,
        optimizer: str = "adam",
        kinds: Sequence[Column] = (),
    ) -> PackProgram:
        made = OPTIMIZERS[optimizer].make()
        return PackProgram(
            self.joint, self.layout, self.family, made, samples, columns, width, kinds=kinds, dtype=self.dtype,
            device=self.device,
        )  # fmt: skip


@pytest.fixture(scope="session")
def engine() -> Callable[..., Engine]:
    """``engine(build, family="mean_field", dtype=torch.float64, device="cpu")``: `build()` returns a Model."""

    def make(
        build: Callable[[], Model],
        family: str = "mean_field",
        dtype: torch.dtype = torch.float64,
        device: str = "cpu",
        **arguments: Any,
    ) -> Engine:
        with model_context(dtype, device):
            model = build()
            layout = make_layout(model)
            made = GUIDES[family].make(layout.noise, **arguments)
            density = Density(model, layout, jacobian=made.jacobian)
        joint = trace_joint(density, dtype=dtype, device=device)
        return Engine(model, layout, density, joint, made, dtype, device)

    return make


@pytest.fixture(scope="session")
def column() -> Callable[..., Column]:
    """``column(seed=0, optimizer="adam", **fields)``: a column, everything that is not named at its default."""

    def make(seed: int = 0, optimizer: str = "adam", coefficients: Any = None, **fields: Any) -> Column:
        defaults = {name: argument.default for name, argument in OPTIMIZERS[optimizer].arguments.items()}
        values: dict[str, Any] = {
            "steps": 100,
            "learning_rate": 0.05,
            "divergence": kl_reverse,
            "estimator": reparam,
            "coefficients": {**defaults, **(coefficients or {})},
        }
        return Column(seed, **{**values, **fields})

    return make
