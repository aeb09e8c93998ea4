"""Draws from any configuration of a sweep, from its directory alone: no source of the model, no data."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from vi_dist.checked_files import read_json
from vi_dist.errors import DamagedFile
from vi_dist.report.sweep_directory import FITS, GUIDES, MENDING, PLAN
from vi_dist.sweep.configuration import Choice
from vi_dist.vi.guides.table import GUIDES as FAMILIES
from vi_dist.vi.noise import NoiseSite, NoiseSpace
from vi_dist.vi.sampling import constrain_rows, draw_flat
from vi_dist.vi.saved_guide import CONSTRAIN, DESCRIPTION, read_constrain
from vi_dist.vi.tensor_file import read_tensors

log = logging.getLogger(__name__)

Draws = Mapping[str, NDArray[Any]]
"""Values `(n, *shape)` by the query's name."""
Drawer = Callable[[str], Draws]
"""Gives draws from the configuration with a key; raises `LookupError` where there are none."""

DRAWS = 4000
_MODEL = "model."
NO_DRAWS = "no draws: nothing finished, or the model's queries branch in Python or cannot be stored as data"


def stored_drawer(directory: Path, n: int = DRAWS, seed: int = 0) -> Drawer:
    """Draws n times from the configurations of a sweep; the map of its best fits serves all its guides."""
    configurations = read_json(directory / PLAN, MENDING)["configurations"]

    @cache
    def program() -> tuple[
        Mapping[str, Any], list[list[Any]], Callable[[torch.Tensor], Mapping[str, torch.Tensor]]
    ]:
        return _whole_map(directory)

    @cache
    def draw(key: str) -> Draws:
        file = directory / GUIDES / f"{key}.safetensors"
        if not file.exists():
            raise LookupError(f"{key} has no guide: it did not finish")
        description, coordinates, constrain = program()
        space = NoiseSpace(tuple(NoiseSite(name, size) for name, size in description["sites"]))
        choice = Choice.from_data(configurations[key]["guide"])
        family = FAMILIES[choice.name].make(space, **dict(choice.arguments)).settled
        tensors = read_tensors(file, MENDING)
        params = _model_params(tensors, coordinates)
        leaves = {name: leaf for name, leaf in tensors.items() if not name.startswith(_MODEL)}
        with torch.no_grad():
            values = constrain_rows(constrain, draw_flat(family, leaves, params, n, seed))
        return {name: value.numpy() for name, value in values.items()}

    return draw


def _whole_map(
    directory: Path,
) -> tuple[Mapping[str, Any], list[list[Any]], Callable[[torch.Tensor], Mapping[str, torch.Tensor]]]:
    """From the first of a sweep's best fits whose files are whole: its guide's description, the model's coordinates
    and the map from them to the queries.

    Raises:
        LookupError: no fit has a map.
        DamagedFile: none that has one is whole.
    """
    fault: DamagedFile | None = None
    for file in sorted(directory.glob(f"{FITS}/*/{CONSTRAIN}")):
        fit = file.parent
        try:
            coordinates = read_json(fit / "fit.json", MENDING)["coordinates"]
            return read_json(fit / DESCRIPTION, MENDING), coordinates, read_constrain(fit)
        except DamagedFile as error:
            log.warning("%s", error)
            fault = fault or error
        except FileNotFoundError as error:
            log.warning("%s is missing; %s", error.filename or error, MENDING)
            fault = fault or DamagedFile("is missing", path=str(error.filename or error), cure=MENDING)
    if fault is not None:
        raise fault
    raise LookupError(NO_DRAWS)


def _model_params(tensors: Mapping[str, torch.Tensor], coordinates: list[list[Any]]) -> torch.Tensor:
    """The model's own params, flat, in the order of its coordinates."""
    own = [tensors[f"{_MODEL}{name}"].reshape(-1) for name, _ in coordinates if f"{_MODEL}{name}" in tensors]
    like = next(iter(tensors.values()))
    return torch.cat(own) if own else like.new_zeros(0)
