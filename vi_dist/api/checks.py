"""Everything about a model that can be wrong, found before any actor starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.columns import DTYPES
from vi_dist.cluster.prepared import PreparedModel
from vi_dist.cluster.setup import Setup
from vi_dist.errors import SpecError
from vi_dist.model.data import digest, load_data
from vi_dist.model.model import check_model
from vi_dist.vi.context import model_context
from vi_dist.vi.layout import Layout


@dataclass(frozen=True)
class CheckedModel:
    """A model that has passed.

    Attributes:
        layout: its coordinates.
        data_digest: of its data.
        prepared: the model in the dtype of the fits.
    """

    layout: Layout
    data_digest: str
    prepared: PreparedModel


def check(setup: Setup, dtype: str) -> CheckedModel:
    """Load the data, build the model and run it once in the fits' dtype and in float64, which evaluation uses.

    Raises `ModelError` with the file, the variable and the cure; see `check_model` and `make_layout`.
    """
    data = load_data(setup.data)
    here = Setup(setup.build, data)
    models = [PreparedModel(here, kind) for kind in dict.fromkeys((DTYPES[dtype], torch.float64))]
    for prepared in models:
        with placing(setup.build):
            _run_once(prepared)
    return CheckedModel(models[0].layout, digest(data), models[0])


def _run_once(prepared: PreparedModel) -> None:
    """Everything that raises for a faulty model, short of tracing."""
    with model_context(prepared.dtype, prepared.device):
        check_model(prepared.model)
    prepared.log_density()


@contextmanager
def placing(build: BuildSource) -> Iterator[None]:
    """Name the model's file in every `SpecError` raised inside that names no file."""
    try:
        yield
    except SpecError as error:
        if error.path is not None or build.file is None:
            raise
        raise type(error)(error.message, path=build.file, key=error.key, allowed=error.allowed) from error


def as_arrays(data: object) -> Mapping[str, Any] | str | None:
    """Data in the form in which they travel: a path as it is, everything else as arrays by name."""
    if data is None or (isinstance(data, str) and "://" in data):
        return data
    if isinstance(data, str):
        return str(Path(data).absolute())  # a worker has another current directory
    loaded = load_data(data)
    return {name: value.numpy() if isinstance(value, Tensor) else value for name, value in loaded.items()}
