"""One small sweep with everything in it, tracked for real, which many tests look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, HalfNormal, Normal

from vi_dist import Experiment, Model, SweepResult, functional, random_variable

Y = [0.3, 1.7, 2.2, 0.9, 1.4, 2.8]
SPACE: dict[str, Any] = {
    "guide": ["mean_field", "full_rank", "delta"],
    "learning_rate": [0.05, 1e30],
    "seed": [0, 1],
}


def build(data: dict[str, Tensor]) -> Model:
    """Two latents, three coordinates, one functional."""
    y = data["y"]

    @random_variable
    def mu() -> Distribution:
        return Normal(torch.zeros(2), 3.0)

    @random_variable
    def tau() -> Distribution:
        return HalfNormal(torch.tensor(2.0))

    @functional
    def total() -> Tensor:
        return mu().sum() * tau()

    @random_variable
    def obs() -> Distribution:
        return Normal(mu()[0] + 0.5 * mu()[1], tau()).expand(y.shape)

    return Model([mu(), tau(), total()], {obs(): y})


@pytest.fixture(scope="session")
def experiment() -> Experiment:
    return Experiment(build, name="toy", data={"y": Y})


@pytest.fixture(scope="session")
def toy_build() -> Callable[..., Model]:
    return build


@pytest.fixture(scope="session")
def result(
    experiment: Experiment, tmp_path_factory: pytest.TempPathFactory, with_store: Callable[[Path], Path]
) -> SweepResult:
    """Twelve configurations, of which the six with an absurd learning rate diverge."""
    return experiment.sweep(
        SPACE,
        steps=60,
        num_samples=4,
        executor="inline",
        compile="never",
        evaluation={"samples": 4096},
        output_dir=with_store(tmp_path_factory.mktemp("out")),
    )


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    """The data as a file."""
    import numpy as np

    path = tmp_path / "toy.npz"
    np.savez(path, y=np.array(Y))
    return path
