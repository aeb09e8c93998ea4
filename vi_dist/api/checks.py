"""Everything about a model that can be wrong, found before any actor starts."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vi_dist.api.arguments import folder
from vi_dist.api.precision import check_precision
from vi_dist.cluster.additive import check_shards_add_up, shared_shapes
from vi_dist.cluster.batching import check_additive, probe
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.columns import DTYPES
from vi_dist.cluster.executor import Executor
from vi_dist.cluster.prepared import PreparedModel, faults_of, prepare
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.sharding import check_groups, check_queries, check_sharded
from vi_dist.errors import ModelError, SpecError
from vi_dist.model.data import Data, digest, open_data
from vi_dist.model.model import check_model
from vi_dist.model.storage import fingerprint, is_address
from vi_dist.vi.batches import Batches
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density
from vi_dist.vi.finite_check import check_finite
from vi_dist.vi.initialisation import coordinates_of
from vi_dist.vi.layout import Layout
from vi_dist.vi.precision import parameters_used
from vi_dist.vi.propriety import check_proper
from vi_dist.vi.summed_out_check import check_summed_out

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckedModel:
    """A model that has passed.

    Attributes:
        layout: its coordinates.
        data_digest: of the data that it is trained on.
        prepared: the model in the dtype of the fits.
        largest: numbers in the largest column of the data.
    """

    layout: Layout
    data_digest: str
    prepared: PreparedModel
    largest: int = 0


def check_shards(setup: Setup, dtype: str) -> CheckedModel:
    """`check` for data that are cut, on the rows of the first shard: the others' never come to this process.

    Raises `ModelError` for data that cannot be cut, and for a model of which a shard is no part; see `check_sharded`.
    """
    assert setup.shards is not None, "a setup with shards"
    prepared = _check_shard(setup, 0, dtype)
    with placing(setup.build), model_context(prepared.dtype, prepared.device):
        check_groups(prepared.model, setup.shards.group_by)
        check_queries(prepared.model)
    with placing(setup.build):
        check_shards_add_up(setup)
        if prepared.rows is not None and not prepared.rows.total:
            raise ModelError(
                "the data have no rows, so the fit would be of the prior; give them rows", key="data"
            )
    assert prepared.rows is not None, "a setup with shards"
    return CheckedModel(prepared.layout, _digest(setup), prepared, _largest(prepared.rows.data))


def check_other_shards(setup: Setup, dtype: str, executor: Executor) -> None:
    """What `check_shards` looks at, for every shard, where its rows may be: in processes of the executor.

    Raises `ModelError` as it does, and where what all shards share differs between them.
    """
    shapes = executor.on_shards(partial(_shard_shapes, dtype=dtype), setup)
    for rank, found in enumerate(shapes):
        for name, shape in found.items():
            if shapes[0].get(name) != shape:
                raise ModelError(
                    f"{name} has shape {shapes[0].get(name, 'none')} on shard 0 and {shape} on shard {rank}; what all "
                    "shards share cannot take its shape from their rows: give it a constant, or a number in the data",
                    path=setup.build.file,
                    key="model",
                )


def _shard_shapes(setup: Setup, rank: int, dtype: str) -> dict[str, tuple[int, ...]]:
    return shared_shapes(_check_shard(setup, rank, dtype))


def _check_shard(setup: Setup, rank: int, dtype: str) -> PreparedModel:
    """The model on the rows of one shard, in the fits' dtype, when it has passed in that and in float64."""
    models = [prepare(setup, kind, rank=rank) for kind in dict.fromkeys((DTYPES[dtype], torch.float64))]
    for prepared in models:
        with placing(setup.build):
            _run_once(prepared)
            assert prepared.rows is not None, "a setup with shards"
            with model_context(prepared.dtype, prepared.device):
                check_sharded(prepared.model, prepared.rows)
            if prepared.batches is not None:
                _check_batches(prepared, prepared.batches)
    if len(models) > 1:
        with placing(setup.build):
            assert models[1].rows is not None, "a setup with shards"
            check_precision(models[0], models[1], models[1].rows.data)
    return models[0]


def _check_batches(prepared: PreparedModel, batches: Batches) -> None:
    """Refuse a model of which a batch of rows is no part; in float64 where sums are compared."""
    prepared.training_joint()
    if prepared.dtype == torch.float64:
        check_additive(prepared.batch_density(), batches, probe(prepared.start))


def _digest(setup: Setup) -> str:
    """sha256 of files as they are stored; of what is in memory as ever."""
    data = setup.data
    if not isinstance(data, str | list | tuple):
        return digest(setup.load())
    total = hashlib.sha256()
    for path in [data] if isinstance(data, str) else data:
        total.update(fingerprint(path))
    return total.hexdigest()


def check(setup: Setup, dtype: str) -> CheckedModel:
    """Load the data, build the model and run it once in the fits' dtype and in float64, which evaluation uses.

    Raises `ModelError` with the file, the variable and the cure; see `check_model` and `make_layout`.
    """
    if setup.shards is not None:
        return check_shards(setup, dtype)
    data = setup.load()
    models = [prepare(setup, kind) for kind in dict.fromkeys((DTYPES[dtype], torch.float64))]
    for prepared in models:
        with placing(setup.build):
            _run_once(prepared)
            _check_rows(prepared, data)
    if len(models) > 1:
        with placing(setup.build):
            check_precision(models[0], models[1], data)
    if (summed_out := models[0].layout.summed_out) is not None:
        log.info("summed out of the model: %s", summed_out)
    trained = data if setup.holdout is None else setup.holdout.part(data, held_out=False)
    return CheckedModel(models[0].layout, digest(trained), models[0], _largest(trained))


def _check_rows(prepared: PreparedModel, data: Data) -> None:
    """Refuse data without a single row, under which the fit would be of the prior. Raises `ModelError`."""
    observed = prepared.model.observations
    nothing = bool(observed) and not any(value.numel() for value in observed.values())
    usable = data.usable()
    if not usable or not (nothing or all(0 in column.shape for column in usable.values())):
        return
    columns = ", ".join(f"{name} {tuple(column.shape)}" for name, column in usable.items())
    what = (
        f"what the model observes ({', '.join(map(str, observed))})"
        if nothing
        else "every column of the data"
    )
    raise ModelError(
        f"{what} has no rows, so the fit would be of the prior; the data are {columns}: give them rows, or fit the "
        "prior by a model without data and observations",
        key="data",
    )


def _largest(data: Data) -> int:
    return max((math.prod(column.shape) for column in data.usable().values()), default=0)


def _run_once(prepared: PreparedModel) -> None:
    """Everything that raises for a faulty model, short of tracing."""
    starts = []
    with faults_of(prepared), model_context(prepared.dtype, prepared.device):
        check_model(prepared.model)
        if prepared.setup.initial_values is not None:
            starts.append(coordinates_of(prepared.model, prepared.layout, prepared.setup.initial_values))
        if prepared.dtype == torch.float64:
            check_summed_out(Density(prepared.model, prepared.layout))
    with parameters_used() as used:
        prepared.log_density()
    if used and prepared.dtype == torch.float64:
        shapes = ", ".join(str(tuple(one.shape)) for one in used)
        log.warning(
            "the model uses torch.nn.Parameters (of shape %s) that are not trained: they keep their values; make them "
            "@param functions to train them, or call requires_grad_(False) to say so",
            shapes,
        )
    if prepared.dtype == torch.float64:
        with model_context(prepared.dtype, prepared.device):
            density = Density(prepared.model, prepared.layout)
            check_finite(density, starts)
            check_proper(density, observed=prepared.setup.shards is None)


@contextmanager
def placing(build: BuildSource) -> Iterator[None]:
    """Name the model's file in every `SpecError` raised inside that names no file."""
    try:
        yield
    except SpecError as error:
        if error.path is not None or build.file is None:
            raise
        raise type(error)(error.message, path=build.file, key=error.key, allowed=error.allowed) from error


def as_arrays(
    data: object, columns: Collection[str] | None = None
) -> Mapping[str, Any] | str | list[str] | None:
    """Data in the form in which they travel: a path as it is, everything else as arrays by name, all or some."""
    if data is None:
        return data
    if isinstance(data, str):
        return _absolute(data)
    if isinstance(data, list | tuple):
        if odd := [one for one in data if not isinstance(one, str | Path)]:
            raise SpecError(
                f"a list of data names files, and {type(odd[0]).__name__} is none; join tables first, or give a dict "
                "of arrays",
                key="data",
            )
        return [_absolute(one) for one in data]
    loaded = open_data(data, columns=columns)
    return loaded.map(lambda _, value: value.numpy() if isinstance(value, Tensor) else value)


def _absolute(path: str | Path) -> str:
    """A path for workers, whose current directories are others; an address as it is."""
    named = folder(path, "data")
    return str(path) if is_address(path) else str(named.absolute())
