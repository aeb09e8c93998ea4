"""Packs are narrower where a step of 64 configurations would not fit into memory; the plan says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from vi_dist import Model, random_variable
from vi_dist.api.planning import PACK_BYTES, plan_sweep
from vi_dist.cluster.build_source import BuildSource
from vi_dist.sweep.spec import make_spec


def build(data: dict[str, Tensor]) -> Model:
    """One latent seen through many data."""
    y = data["y"]

    @random_variable
    def mu() -> Distribution:
        return Normal(torch.tensor(0.0), 1.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(mu(), 1.0).expand(y.shape)

    return Model([mu()], {obs(): y})


def widths(rows: int, **changes: Any) -> list[int]:
    values = {"name": "wide", "space": {"seed": list(range(100))}, "num_samples": 32, "executor": "inline"}
    spec = make_spec({**values, **changes})
    planned = plan_sweep(BuildSource(function=build), {"y": torch.zeros(rows)}, spec)
    return [pack.width for pack in planned.packs]


def test_small_data_make_full_packs() -> None:
    assert widths(1000) == [64, 64]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_data_make_narrow_packs(dtype: str) -> None:
    rows = 200_000
    found = widths(rows, dtype=dtype)
    assert set(found) == ({16} if dtype == "float32" else {8})
    itemsize = 4 if dtype == "float32" else 8
    assert found[0] * rows * 32 * itemsize < PACK_BYTES


def test_a_device_takes_a_thousand_columns() -> None:
    assert widths(1000, gpus_per_actor=1) == [112]
    assert widths(1000, gpus_per_actor=1, space={"seed": list(range(1500))}) == [752, 752]


def test_a_pack_size_that_is_given_is_kept() -> None:
    assert set(widths(200_000, pack_size=50)) == {64}
