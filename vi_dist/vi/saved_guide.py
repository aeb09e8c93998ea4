"""A guide on disk that gives posterior draws without the model's source: params, family and the traced queries."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from vi_dist.errors import ModelError
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.layout import Layout
from vi_dist.vi.noise import NoiseSite, NoiseSpace
from vi_dist.vi.sampling import Constrain, constrain_rows, draw_flat

PARAMS, DESCRIPTION, CONSTRAIN = "params.safetensors", "guide.json", "constrain.pt2"
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

    Without a traced map (a model with Python control flow) `draws` will refuse; everything else is there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: leaf.detach().cpu().contiguous() for name, leaf in leaves.items()}
    tensors[_MODEL_PARAMS] = params.detach().cpu().contiguous()
    save_file(tensors, directory / PARAMS)
    description = {
        "family": family,
        "arguments": dict(arguments),
        "sites": [[site.name, site.size] for site in layout.noise.sites],
    }
    (directory / DESCRIPTION).write_text(json.dumps(description, indent=1))
    if constrain.graph is not None:
        example = torch.cat((layout.loc, layout.eta)).to(params)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.export warns of its own deprecations
            torch.export.save(torch.export.export(constrain.graph, (example,)), directory / CONSTRAIN)


def draws(directory: Path | str, n: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """n posterior draws `(n, *shape)` of every query, by name, from a directory that `save` wrote.

    Raises `ModelError` if the queries could not be traced when it was written.
    """
    directory = Path(directory)
    description = json.loads((directory / DESCRIPTION).read_text())
    tensors = load_file(directory / PARAMS)
    params = tensors.pop(_MODEL_PARAMS)
    if not (directory / CONSTRAIN).exists():
        raise ModelError(
            "the model's queries have Python control flow, so draws need its source: use Fit.load(directory, build)",
            path=directory,
        )
    space = NoiseSpace(tuple(NoiseSite(name, size) for name, size in description["sites"]))
    family = GUIDES[description["family"]].make(space, **description["arguments"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.load(directory / CONSTRAIN).module()
    with torch.no_grad():
        values = constrain_rows(program, draw_flat(family, tensors, params, n, seed))
    return {name: np.asarray(value) for name, value in values.items()}
