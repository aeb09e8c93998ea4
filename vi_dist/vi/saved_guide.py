"""A guide on disk that gives posterior draws without the model's source: params, family and the traced queries."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vi_dist.checked_files import read_json, replace_file, sealed_json
from vi_dist.errors import ModelError
from vi_dist.vi.graph_file import StoredMap, Unstorable, read_map, write_map
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.layout import Layout
from vi_dist.vi.noise import NoiseSite, NoiseSpace
from vi_dist.vi.sampling import Constrain, constrain_rows, draw_flat
from vi_dist.vi.tensor_file import read_tensors, write_tensors

log = logging.getLogger(__name__)

PARAMS, DESCRIPTION = "params.safetensors", "guide.json"
CONSTRAIN, CONSTANTS = "constrain.json", "constrain.safetensors"
CURE = "save the fit again: Fit.save, or vi-dist resume on the sweep's directory"
_MODEL_PARAMS = "model.params"


def save(
    directory: Path,
    family: str,
    arguments: Mapping[str, Any],
    leaves: Mapping[str, Tensor],
    params: Tensor,
    layout: Layout,
    constrain: Constrain,
) -> None:
    """Write one guide: its leaves and the model's params `(p,)` (no leading axis), and how to draw from it.

    Without a traced map (a model with Python control flow), or with one that cannot be stored as data, `draws` will
    refuse; everything else is there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: leaf.detach().cpu().contiguous() for name, leaf in leaves.items()}
    tensors[_MODEL_PARAMS] = params.detach().cpu().contiguous()
    write_tensors(directory / PARAMS, tensors)
    description = {
        "family": family,
        "arguments": dict(arguments),
        "sites": [[site.name, site.size] for site in layout.noise.sites],
    }
    replace_file(directory / DESCRIPTION, sealed_json(description))
    for name in (CONSTRAIN, CONSTANTS):
        (directory / name).unlink(missing_ok=True)
    if constrain.graph is not None:
        try:
            write_map(constrain.graph, directory / CONSTRAIN, directory / CONSTANTS)
        except Unstorable as error:
            log.warning("draws from %s need the model's source: %s", directory, error)


def read_constrain(directory: Path) -> StoredMap:
    """The map from coordinates to the queries of a directory that `save` wrote.

    Raises:
        FileNotFoundError: the queries could not be traced or stored.
        DamagedFile: a file is not what was written.
    """
    return read_map(directory / CONSTRAIN, directory / CONSTANTS, CURE)


def draws(directory: Path | str, n: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """n posterior draws `(n, *shape)` of every query, by name, from a directory that `save` wrote.

    Raises:
        ModelError: the queries could not be traced or stored when it was written.
        DamagedFile: a file is not what was written.
    """
    directory = Path(directory)
    description = read_json(directory / DESCRIPTION, CURE)
    tensors = read_tensors(directory / PARAMS, CURE)
    params = tensors.pop(_MODEL_PARAMS)
    if not (directory / CONSTRAIN).exists():
        raise ModelError(
            "the model's queries have Python control flow or cannot be stored as data, so draws need its source: use "
            "Fit.load(directory, build)",
            path=directory,
        )
    space = NoiseSpace(tuple(NoiseSite(name, size) for name, size in description["sites"]))
    family = GUIDES[description["family"]].make(space, **description["arguments"])
    program = read_constrain(directory)
    with torch.no_grad():
        values = constrain_rows(program, draw_flat(family, tensors, params, n, seed))
    return {name: np.asarray(value) for name, value in values.items()}
