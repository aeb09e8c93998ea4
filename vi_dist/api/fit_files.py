"""A fit on disk: params and losses as safetensors, the rest as JSON, and the traced map to the model's space."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from vi_dist.api.checks import as_arrays
from vi_dist.api.fitted_guide import NUMBERS, FittedGuide
from vi_dist.checked_files import read_json, replace_file, sealed_json
from vi_dist.cluster.build_source import BuildSource, check_build
from vi_dist.cluster.columns import DTYPES
from vi_dist.cluster.prepared import PreparedModel, prepare
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.sweep_files import joined_params
from vi_dist.errors import DamagedFile, SpecError
from vi_dist.sweep.configuration import Choice
from vi_dist.vi import saved_guide
from vi_dist.vi.saved_guide import CURE
from vi_dist.vi.tensor_file import read_tensors, write_tensors

T = TypeVar("T")

DESCRIPTION, LOSSES = "fit.json", "losses.safetensors"
_FIELDS = ("key", "name", "configuration", "status", "reason", "steps")


def save_fit(fit: FittedGuide, directory: Path) -> None:
    """Write a fit; see `Fit.save`."""
    prepared, guide = fit.ready(), Choice.from_data(fit.configuration["guide"])
    directory.mkdir(parents=True, exist_ok=True)
    saved_guide.save(
        directory,
        guide.name,
        dict(guide.arguments),
        fit.leaves(),
        fit.model_params(),
        prepared.layout,
        prepared.constrain,
    )
    description: dict[str, Any] = {name: getattr(fit, name) for name in _FIELDS}
    description |= {name: _number(getattr(fit, name)) for name in NUMBERS}
    description["coordinates"] = coordinates(prepared)
    write_tensors(directory / LOSSES, {"losses": fit.losses})
    replace_file(directory / DESCRIPTION, sealed_json(description))


def load_fit(directory: Path, build: Any, data: object, make: Callable[..., T]) -> T:
    """What `make` (`vi_dist.api.fit.make_fit`) makes of a fit on disk; see `Fit.load`."""
    if build is None:
        raise SpecError(
            "a fit needs the function that builds its model", key="build", allowed=("a function",)
        )
    check_build(build)
    file = directory / DESCRIPTION
    if not file.is_file():
        raise SpecError(f"there is no saved fit here: no {DESCRIPTION}", path=directory)
    description = read_json(file, CURE)
    source = BuildSource(path=build) if isinstance(build, str) else BuildSource(function=build)
    dtype = DTYPES[description["configuration"]["dtype"]]
    prepared = prepare(Setup(source, as_arrays(data)), dtype)
    found, wanted = coordinates(prepared), description["coordinates"]
    if found != wanted:
        raise SpecError(
            f"the model has the coordinates {found} and the fit belongs to {wanted}; pass the build and the data that "
            "it was made with",
            path=file,
        )
    tensors = _tensors(directory / saved_guide.PARAMS)
    flat = tensors.pop("model.params", torch.zeros(0, dtype=dtype))
    whole = torch.cat((flat.new_zeros(prepared.layout.size), flat))
    own = {site.name: site.take(whole).clone() for site in prepared.layout.params}
    losses = _tensors(directory / LOSSES)["losses"]
    params = joined_params(tensors, own)
    return make(description["key"], description["configuration"], description, losses, params, prepared)


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    try:
        return read_tensors(file, CURE)
    except FileNotFoundError:
        raise DamagedFile("is missing", path=file, cure=CURE) from None


def _number(value: float) -> float | str:
    """JSON has no NaN and no infinity: those go as text, which float() reads back."""
    return value if math.isfinite(value) else repr(value)


def coordinates(prepared: PreparedModel) -> list[list[Any]]:
    """Names and sizes of a model's latents and params, in order."""
    layout = prepared.layout
    return [[site.name, site.size] for site in (*layout.latents, *layout.params)]
