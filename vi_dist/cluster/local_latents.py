"""What was learnt of the latents that belong to rows, written by the shard that has the rows."""

from __future__ import annotations

import fsspec
import pandas as pd
import torch

from vi_dist.cluster.prepared import PreparedModel
from vi_dist.cluster.task import PackTask
from vi_dist.vi.layout import element_names
from vi_dist.vi.noise import SAMPLING, NormalSource
from vi_dist.vi.pack import PackProgram
from vi_dist.vi.state import PackState

DRAWS = 400
"""Draws behind a mean and a standard deviation."""


def write_local(
    directory: str, rank: int, program: PackProgram, state: PackState, prepared: PreparedModel, task: PackTask
) -> None:
    """One Parquet file per configuration: ``latent``, ``id`` (row or group), ``mean`` and ``sd``, in the model's space.

    The file is ``<directory>/locals/<configuration>/shard-<rank>.parquet``.
    """
    assert prepared.rows is not None
    ids, step = prepared.rows.ids, program.step
    files, root = fsspec.core.url_to_fs(directory)
    source = NormalSource(program.space, [0], program.dtype, program.device)
    noise = source(SAMPLING, torch.zeros(1, 1, device=program.device), DRAWS)[0].expand(program.width, -1, -1)
    for row, configuration in enumerate(task.configurations):
        with torch.no_grad():
            rows, _, _ = step.rows(state.params[row : row + 1], noise[row : row + 1])
        values = prepared.constrain_local(rows[0])
        parts = []
        for name, drawn in values.items():
            flat = drawn.reshape(DRAWS, len(ids), -1)
            shape = tuple(drawn.shape[2:])
            for element, label in enumerate(element_names(name, shape) if shape else [name]):
                one = flat[:, :, element]
                parts.append(
                    pd.DataFrame({"latent": label, "id": ids.numpy(), "mean": one.mean(0), "sd": one.std(0)})
                )
        folder = f"{root}/locals/{configuration.name}"
        files.makedirs(folder, exist_ok=True)
        with files.open(f"{folder}/shard-{rank}.parquet", "wb") as stream:
            pd.concat(parts).to_parquet(stream, index=False)
