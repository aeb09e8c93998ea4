"""Draws from any configuration of a sweep, from its directory alone: no source of the model, no data."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from vi_dist.report.sweep_directory import FITS, GUIDES, PLAN
from vi_dist.sweep.configuration import Choice
from vi_dist.vi.guides.table import GUIDES as FAMILIES
from vi_dist.vi.noise import NoiseSite, NoiseSpace
from vi_dist.vi.sampling import constrain_rows, draw_flat
from vi_dist.vi.saved_guide import CONSTRAIN, DESCRIPTION

Draws = Mapping[str, NDArray[Any]]
"""Values `(n, *shape)` by the query's name."""
Drawer = Callable[[str], Draws]
"""Gives draws from the configuration with a key; raises `LookupError` where there are none."""

DRAWS = 4000
_MODEL = "model."
NO_DRAWS = "no draws: nothing finished, or the model's queries branch in Python"


def stored_drawer(directory: Path, n: int = DRAWS, seed: int = 0) -> Drawer:
    """Draws n times from the configurations of a sweep; the map of its best fits serves all its guides."""
    configurations = json.loads((directory / PLAN).read_text())["configurations"]

    @cache
    def program() -> tuple[Path, Callable[[torch.Tensor], Mapping[str, torch.Tensor]]]:
        found = next(iter(sorted(directory.glob(f"{FITS}/*/{CONSTRAIN}"))), None)
        if found is None:
            raise LookupError(NO_DRAWS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.export warns of its own deprecations
            return found.parent, torch.export.load(found).module()

    @cache
    def draw(key: str) -> Draws:
        file = directory / GUIDES / f"{key}.safetensors"
        if not file.exists():
            raise LookupError(f"{key} has no guide: it did not finish")
        fit, constrain = program()
        description = json.loads((fit / DESCRIPTION).read_text())
        space = NoiseSpace(tuple(NoiseSite(name, size) for name, size in description["sites"]))
        choice = Choice.from_data(configurations[key]["guide"])
        family = FAMILIES[choice.name].make(space, **dict(choice.arguments)).settled
        tensors = load_file(file)
        params = _model_params(tensors, json.loads((fit / "fit.json").read_text())["coordinates"])
        leaves = {name: leaf for name, leaf in tensors.items() if not name.startswith(_MODEL)}
        with torch.no_grad():
            values = constrain_rows(constrain, draw_flat(family, leaves, params, n, seed))
        return {name: value.numpy() for name, value in values.items()}

    return draw


def _model_params(tensors: Mapping[str, torch.Tensor], coordinates: list[list[Any]]) -> torch.Tensor:
    """The model's own params, flat, in the order of its coordinates."""
    own = [tensors[f"{_MODEL}{name}"].reshape(-1) for name, _ in coordinates if f"{_MODEL}{name}" in tensors]
    like = next(iter(tensors.values()))
    return torch.cat(own) if own else like.new_zeros(0)
