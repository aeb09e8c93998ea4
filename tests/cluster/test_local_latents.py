"""Tables of the latents of rows: what the guide says of them, whatever the number of shards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.local_latents import write_local
from vi_dist.cluster.prepared import PreparedModel
from vi_dist.cluster.programs import make_program
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.sharding import Sharding
from vi_dist.cluster.task import PackTask
from vi_dist.sweep.configuration import Configuration
from vi_dist.vi.pack import PackProgram
from vi_dist.vi.state import PackState

ROWS, COUNTIES = 23, np.array(["ash", "birch", "elm", "oak", "yew"])
COUNTY = np.random.default_rng(0).permutation(np.arange(ROWS) % 5)
DATA = {
    "x": np.random.default_rng(1).normal(size=ROWS),
    "y": np.random.default_rng(2).normal(size=ROWS),
    "group": COUNTIES[COUNTY],
}


def of_guide(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Means and sds that the guide is given, by row or group."""
    return 0.7 * ids - 3.0, 0.1 + 0.4 * ids


def told(program: PackProgram, ids: Tensor) -> PackState:
    """The start, with that guide of the local latents in every column."""
    state, shared = program.start(), program.step.shared_size
    loc, scale = of_guide(ids.to(program.dtype))
    own = torch.cat((loc, scale.expm1().log())).expand(program.width, -1)
    return replace(state, params=torch.cat((state.params[:, :shared], own), 1))


@pytest.fixture
def tables(
    toy: Any, configuration: Callable[..., Configuration], tmp_path: Path
) -> Callable[..., pd.DataFrame]:
    """``tables(build, shards, group_by)``: what all shards write of the second configuration, by row or group."""

    def write(build: str, count: int, group_by: str | None) -> pd.DataFrame:
        cut, source = Sharding(count, group_by), BuildSource(path=f"{toy.__file__}:{build}")
        setup = Setup(source, DATA, 64, compile="never", shards=cut)
        members = tuple(configuration(seed=seed, dtype="float64") for seed in (0, 1))
        task, folder = PackTask(0, 2, members), tmp_path / f"{build}-{count}"
        for rank in range(count):
            prepared = PreparedModel(setup, torch.float64, rank=rank)
            assert prepared.rows is not None
            program = make_program(task, prepared, torch.float64, prepared.device)
            write_local(str(folder), rank, program, told(program, prepared.rows.ids), prepared, task)
        files = sorted((folder / "locals" / members[1].name).iterdir())
        assert [path.name for path in files] == [f"shard-{rank}.parquet" for rank in range(count)]
        return pd.concat([pd.read_parquet(path) for path in files], ignore_index=True)

    return write


@pytest.mark.parametrize(("build", "group_by"), [("build_levels", None), ("build_local", "group")])
def test_means_and_sds_are_the_guides_for_any_number_of_shards(
    tables: Callable[..., pd.DataFrame], build: str, group_by: str | None
) -> None:
    one, three = (tables(build, count, group_by) for count in (1, 3))
    ids = torch.arange(ROWS if group_by is None else len(COUNTIES))
    loc, scale = of_guide(ids.double())
    np.testing.assert_array_equal(one["id"], ids)
    np.testing.assert_allclose(one["mean"], loc, atol=1e-5)
    np.testing.assert_allclose(one["sd"], scale, atol=1e-5)
    assert set(one["latent"]) == {"level"}
    pd.testing.assert_frame_equal(three, one, rtol=1e-12, atol=1e-12)


def test_groups_are_called_what_the_data_call_them(tables: Callable[..., pd.DataFrame]) -> None:
    table = tables("build_local", 3, "group")
    assert list(table) == ["latent", "id", "label", "mean", "sd"]
    assert list(table["label"]) == list(COUNTIES)
    assert list(tables("build_levels", 3, None)) == ["latent", "id", "mean", "sd"]
