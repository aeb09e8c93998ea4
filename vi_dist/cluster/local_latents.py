"""What was learnt of the latents that belong to rows, written by the shard that has the rows."""

from __future__ import annotations

from collections.abc import Mapping

import fsspec
import pandas as pd
import torch
from torch import Tensor

from vi_dist.cluster.prepared import PreparedModel
from vi_dist.cluster.task import PackTask
from vi_dist.model.shard_rows import ShardRows
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

    With groups there is ``label`` too, what the group column calls the group. The file is
    ``<directory>/locals/<configuration>/shard-<rank>.parquet``.
    """
    assert prepared.rows is not None
    files, root = fsspec.core.url_to_fs(directory)
    noise = _noise(program)
    for row, configuration in enumerate(task.configurations):
        with torch.no_grad():
            rows, _, _ = program.step.rows(state.params[row : row + 1], noise)
        table = _table(prepared.constrain_local(rows[0]), prepared.rows)
        folder = f"{root}/locals/{configuration.name}"
        files.makedirs(folder, exist_ok=True)
        with files.open(f"{folder}/shard-{rank}.parquet", "wb") as stream:
            table.to_parquet(stream, index=False)


def _stratified(normals: Tensor) -> Tensor:
    """Quantiles of the normal in the place of S normals `(..., S, n)`: of every coordinate, mean 0 and variance 1.

    The guide of local latents is independent normals, whose mean and sd such draws have exactly; their order, which
    pairs a coordinate's quantiles with another's, is that of sorting `normals`.
    """
    draws = normals.shape[-2]
    middles = (torch.arange(draws, dtype=torch.float64, device=normals.device) + 0.5) / draws
    quantiles = torch.special.ndtri(middles)
    quantiles = (quantiles / quantiles.std(correction=0)).to(normals.dtype)
    return quantiles[normals.argsort(dim=-2, stable=True)]


def _noise(program: PackProgram) -> Tensor:
    """Noise `(1, DRAWS, E)` of draws from the guide, in which that of the local latents is stratified."""
    source = NormalSource(program.space, [0], program.dtype, program.device)
    noise = source(SAMPLING, torch.zeros(1, 1, device=program.device), DRAWS)[0]
    shared = program.family.noise.size
    return torch.cat((noise[..., :shared], _stratified(noise[..., shared:])), -1)


def _table(values: Mapping[str, Tensor], rows: ShardRows) -> pd.DataFrame:
    """Means and sds of every element of the latents, from draws `(DRAWS, n, *shape)`, by row or group."""
    known: dict[str, object] = {"id": rows.ids.numpy()}
    if rows.labels is not None:
        known["label"] = rows.labels
    parts = []
    for name, drawn in values.items():
        flat, shape = drawn.reshape(DRAWS, len(rows.ids), -1), tuple(drawn.shape[2:])
        means, sds = flat.mean(0).cpu(), flat.std(0, correction=0).cpu()
        for element, latent in enumerate(element_names(name, shape) if shape else [name]):
            learnt = {"mean": means[:, element], "sd": sds[:, element]}
            parts.append(pd.DataFrame({"latent": latent, **known, **learnt}))
    return pd.concat(parts)
