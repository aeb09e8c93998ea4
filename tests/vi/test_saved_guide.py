"""A guide on disk draws without the model's source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Dirichlet, Distribution, Gamma, Normal

from vi_dist.checked_files import read_json
from vi_dist.errors import ModelError
from vi_dist.model.decorators import functional, param, random_variable
from vi_dist.model.model import Model
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.sampling import draw_flat, make_constrain
from vi_dist.vi.saved_guide import DESCRIPTION, draws, save
from vi_dist.vi.table import REQUIRED


def rv(name: str, function: Callable[[], Distribution]) -> Any:
    function.__name__ = name
    return random_variable(function)


def model() -> Model:
    eta = param(lambda: torch.tensor([0.25, 0.5]))
    scale = rv("scale", lambda: Gamma(2.0, 1.0))
    weights = rv("weights", lambda: Dirichlet(torch.ones(3)))
    y = rv("y", lambda: Normal(scale() + eta().sum(), 1.0))
    total = functional(lambda: weights() * scale() + eta()[0])
    return Model([scale(), weights(), total()], {y(): torch.tensor(0.5)})


def branching() -> Model:
    theta = rv("theta", lambda: Normal(0.0, 1.0))
    sign = functional(lambda: torch.ones(()) if theta() > 0 else -torch.ones(()))
    return Model([sign()], {})


def leaves_of(made: Any) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    first = made.family.initial(made.layout.loc)
    return {k: v + 0.3 * torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in first.items()}


def arguments_of(name: str) -> dict[str, Any]:
    return {k: a.low or 1 if a.default is REQUIRED else a.default for k, a in GUIDES[name].arguments.items()}


def write(made: Any, name: str, directory: Path) -> tuple[dict[str, Tensor], Any]:
    leaves = leaves_of(made)
    constrain = make_constrain(made.density, torch.cat((made.layout.loc, made.layout.eta)))
    save(directory, name, arguments_of(name), leaves, made.layout.eta, made.layout, constrain)
    return leaves, constrain


@pytest.mark.parametrize(
    ("name", "dtype"), [("full_rank", torch.float64), ("delta", torch.float32), ("low_rank", torch.float32)]
)
def test_draws_are_those_of_the_guide_in_memory(
    engine: Callable[..., Any], tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    made = engine(model, name, dtype, **arguments_of(name))
    leaves, constrain = write(made, name, tmp_path)
    found = draws(tmp_path, 5, seed=4)
    expected = constrain(draw_flat(made.family, leaves, made.layout.eta, 5, seed=4))
    assert list(found) == list(expected)
    for query, values in found.items():
        assert values.dtype == np.dtype(str(dtype).removeprefix("torch."))
        np.testing.assert_allclose(
            values, expected[query].numpy(), rtol=1e-6 if dtype == torch.float32 else 1e-13
        )
    assert found["weights"].shape == (5, 3)
    np.testing.assert_allclose(draws(str(tmp_path), 2, seed=4)["scale"], found["scale"][:2], rtol=1e-6)


def test_no_code_is_loaded_from_disk(engine: Callable[..., Any], tmp_path: Path) -> None:
    """The description is JSON that says which family over which sites."""
    write(engine(model), "mean_field", tmp_path)
    description = read_json(tmp_path / DESCRIPTION)
    assert description == {
        "family": "mean_field",
        "arguments": {"whiten": False},
        "sites": [["scale", 1], ["weights", 2]],
    }


def test_control_flow_needs_the_source(engine: Callable[..., Any], tmp_path: Path) -> None:
    write(engine(branching), "mean_field", tmp_path)
    with pytest.raises(ModelError, match="need its source"):
        draws(tmp_path, 2)
