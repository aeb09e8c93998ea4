"""A model made ready in one dtype on one device: built, laid out, traced; each part once and when it is needed."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch

from vi_dist.cluster.batching import batch_density, row_columns
from vi_dist.cluster.build_source import Build
from vi_dist.cluster.fault import one_line, place_of_fault
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.sharding import local_queries, shared_queries
from vi_dist.errors import ModelError, SpecError
from vi_dist.model.data import Data, to_device
from vi_dist.model.model import Model
from vi_dist.model.shard_rows import ShardRows
from vi_dist.vi.batch_density import BatchDensity
from vi_dist.vi.batches import Batches
from vi_dist.vi.context import model_context, steady_products
from vi_dist.vi.density import Density
from vi_dist.vi.initialisation import coordinates_of
from vi_dist.vi.joint_values import JointValues
from vi_dist.vi.laplace_scale import Mode
from vi_dist.vi.layout import Layout, make_layout
from vi_dist.vi.mode import find_mode
from vi_dist.vi.sampling import Constrain, make_constrain
from vi_dist.vi.trace import JointProgram, trace_batches, trace_joint


class PreparedModel:
    """What fitting, evaluating and sampling one model share; `prepare` gives the one that is there already.

    Args:
        setup: where the model and its data come from.
        dtype: of every float.
        device: where the numbers live.
        held_out: whether the model observes the rows that the setup holds out, instead of those that train.
        rank: number of the shard whose rows it observes, where the setup has shards.
    """

    def __init__(
        self,
        setup: Setup,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        *,
        held_out: bool = False,
        rank: int = 0,
    ) -> None:
        steady_products()
        self.rank = rank
        self.setup, self.dtype, self.device, self._held_out = setup, dtype, torch.device(device), held_out
        self._joints: dict[bool, JointProgram] = {}
        self._batch_joints: dict[bool, JointProgram] = {}

    @cached_property
    def rows(self) -> ShardRows | None:
        """The shard's rows that the model observes; None where the data are not cut.

        Raises `ModelError` for data that cannot be.
        """
        if self.setup.shards is None:
            return None
        cut = cut_rows(self.setup, self.rank)
        return cut if self.setup.holdout is None else self.setup.holdout.of_shard(cut, self._held_out)

    @cached_property
    def _columns(self) -> Data:
        """The shard's rows in the model's dtype, on its device."""
        assert self.rows is not None, "a setup with shards"
        return to_device(self.rows.data, self.dtype, self.device)

    @cached_property
    def model(self) -> Model:
        """The user's model on its data. Raises `ModelError` if `build` raises or returns something else."""
        data = None
        if self.rows is not None:
            data = self._columns
        elif self.setup.data is not None:
            data = self.setup.load()
            if self.setup.holdout is not None:
                data = self.setup.holdout.part(data, self._held_out)
            data = to_device(data, self.dtype, self.device)
        build = self.setup.build.load()
        with model_context(self.dtype, self.device):
            return call_build(build, data, self.setup.build.file)

    @cached_property
    def layout(self) -> Layout:
        """The model's coordinates."""
        model = self.model
        with faults_of(self), model_context(self.dtype, self.device):
            return make_layout(model, sharded=self.setup.shards is not None)

    def joint(self, jacobian: bool = True) -> JointProgram:
        """The traced log joint, with or without the Jacobian of the map to the model's space."""
        if jacobian not in self._joints:
            density = Density(self.model, self.layout, jacobian, owner=self.rank == 0)
            self._joints[jacobian] = trace_joint(density, dtype=self.dtype, device=self.device)
        return self._joints[jacobian]

    @cached_property
    def batches(self) -> Batches | None:
        """Which of the shard's rows a step sees; None where it sees all of them."""
        size = None if self.setup.shards is None else self.setup.shards.batch_size
        if size is None or self.rows is None or size >= self.rows.rows:
            return None
        return Batches(tuple(row_columns(self._columns).values()), self.rows.ids, size)

    def batch_density(self, jacobian: bool = True) -> BatchDensity:
        """The density of a batch of the shard's rows, which stands for all of them."""
        assert self.batches is not None, "a setup with a batch size, and more rows than that"
        build = self.setup.build.load()
        return batch_density(
            lambda data: call_build(build, data, self.setup.build.file),
            self._columns,
            self.layout,
            self.batches,
            jacobian=jacobian,
            owner=self.rank == 0,
        )

    def training_joint(self, jacobian: bool = True) -> JointProgram:
        """The log joint that a step takes: `joint`, or its estimate from one of `batches`."""
        if self.batches is None:
            return self.joint(jacobian)
        if jacobian not in self._batch_joints:
            # Traced at the second batch and compared at the first: what is baked in differs.
            density, one, other = self.batch_density(jacobian), self.batches(1), self.batches(0)
            made = trace_batches(density, one, other, dtype=self.dtype, device=self.device)
            self._batch_joints[jacobian] = made
        return self._batch_joints[jacobian]

    @cached_property
    def values(self) -> JointValues:
        """The log joint of many rows, for evaluation; compiled where the sweep has enough of them."""
        values = JointValues(self.joint(), self.start.shape[0], self.dtype)
        values.compile(self.setup.compile, self.setup.evaluations * self.setup.samples)
        return values

    @cached_property
    def mode(self) -> Mode | None:
        """The mode of the coordinates' density, found once, in float64; None where there is none to be found."""
        precise = self.precise("cpu")
        return find_mode(precise.joint(), precise.start, precise.layout.size)

    @cached_property
    def initial_coordinates(self) -> torch.Tensor:
        """The user's initial values as coordinates. Raises `ModelError` for values that the model cannot have."""
        with model_context(self.dtype, self.device):
            return coordinates_of(self.model, self.layout, self.setup.initial_values or {})

    def held_out(self) -> PreparedModel:
        """The same model observing the rows that the setup holds out."""
        return prepare(self.setup, self.dtype, self.device, held_out=True, rank=self.rank)

    def precise(self, device: torch.device | str | None = None) -> PreparedModel:
        """The same model on the same rows in float64; absent another device, on the same one."""
        there = self.device if device is None else device
        return prepare(self.setup, torch.float64, there, held_out=self._held_out, rank=self.rank)

    def log_density(self) -> float:
        """The log joint where guides start. Raises `ModelError` if the model fails there."""
        density, flat = Density(self.model, self.layout), self.start
        with faults_of(self), model_context(self.dtype, self.device), torch.no_grad():
            return float(density(flat))

    @property
    def start(self) -> torch.Tensor:
        """Where guides start: coordinates near the prior's median and the params' first values, `(D,)`."""
        return self.layout.start.to(self.device, self.dtype)

    @property
    def queries(self) -> Density:
        """What `constrain` maps from coordinates and params; of a shard, what all shards share."""
        if self.setup.shards is None:
            return Density(self.model, self.layout)
        with model_context(self.dtype, self.device):
            return Density(shared_queries(self.model), self.layout)

    @property
    def shared_start(self) -> torch.Tensor:
        """Where guides start, without the latents of rows."""
        return self.start[: self.layout.size + self.layout.eta.shape[0]]

    @cached_property
    def constrain(self) -> Constrain:
        """The map from coordinates to the values of the queries; of a shard, of those that all shards share."""
        return make_constrain(self.queries, self.shared_start)

    @cached_property
    def constrain_local(self) -> Constrain:
        """The map from all coordinates of a shard to the values of the latents of its rows."""
        return make_constrain(Density(local_queries(self.model), self.layout), self.start)


def prepare(
    setup: Setup,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    *,
    held_out: bool = False,
    rank: int = 0,
) -> PreparedModel:
    """The setup's model in one dtype, on one device and one part of the rows: built and traced once in a process.

    The arguments are those of `PreparedModel`. Setups that share `Setup.built` share the model too, unless they differ
    in something that it depends on; where they cut the data, or what guides are compared with, is nothing of that kind.
    """
    shards = None if setup.shards is None else replace(setup.shards, directory="")
    key = (
        PreparedModel,
        (dtype, torch.device(device), setup.holdout, held_out, shards, rank),
        (setup.build.path, id(setup.build.function), setup.data_key(), id(setup.initial_values)),
        (setup.samples, setup.compile, setup.evaluations),
    )
    if key not in setup.built:
        setup.built[key] = PreparedModel(setup, dtype, device, held_out=held_out, rank=rank)
    found: PreparedModel = setup.built[key]
    return found


def cut_rows(setup: Setup, rank: int) -> ShardRows:
    """The rows of a shard, those held out among them, cut once in a process. Raises as `Setup.cut` does."""
    assert setup.shards is not None, "a setup with shards"
    key = ("rows", setup.data_key(), setup.shards.count, setup.shards.group_by, rank)
    if key not in setup.built:
        setup.built[key] = setup.data, setup.cut(rank)
    found: ShardRows = setup.built[key][1]
    return found


@contextmanager
def faults_of(prepared: PreparedModel) -> Iterator[None]:
    """What the model raises where it is first run becomes a `ModelError` that names variable, line and data."""
    try:
        yield
    except SpecError:
        raise
    except Exception as error:
        notes = "".join(f", {note}" for note in getattr(error, "__notes__", []))
        kind = str(prepared.dtype).removeprefix("torch.")
        what = f"the model fails at its prior median in {kind}: {one_line(error)}{notes}"
        where = place_of_fault(error, prepared.setup.build.file)
        raise ModelError(what + where + _lengths(prepared), key="model") from error


def _lengths(prepared: PreparedModel) -> str:
    """That columns of the data have different lengths, for a message; empty where they have not."""
    setup = prepared.setup
    data = Data() if setup.data is None or setup.shards is not None else setup.load()
    lengths = {name: len(column) if column.ndim else "one number" for name, column in data.usable().items()}
    if len(set(lengths.values())) < 2:
        return ""
    return "; the data's columns have different lengths: " + ", ".join(f"{n} {k}" for n, k in lengths.items())


def call_build(build: Build, data: Mapping[str, Any] | None, file: str | None) -> Model:
    """`build(data)`, or `build()` where it takes nothing; without data it gets an empty dict.

    Raises `ModelError` if it raises or returns no `Model`.
    """
    takes_data = _takes_data(build)
    if data and not takes_data:
        raise ModelError(
            "build takes no argument, and there are data for it; write def build(data)",
            path=file,
            key="model",
        )
    try:
        arguments = (data or {},) if takes_data else ()
        model = build(*arguments)
    except SpecError as error:
        raise type(error)(
            error.message, path=error.path or file, key=error.key or "model", allowed=error.allowed
        ) from error
    except (Exception, SystemExit) as error:
        what = f"{getattr(build, '__name__', 'build')} raised {one_line(error)}{place_of_fault(error, file)}"
        if isinstance(error, KeyError) and data is not None:
            what += f"; the data hold {', '.join(data) or 'nothing'}"
        raise ModelError(what, path=file, key="model") from error
    if not isinstance(model, Model):
        raise ModelError(
            f"build returned {type(model).__name__}; it must return Model(queries, observations)",
            path=file,
            key="model",
        )
    return model


def _takes_data(build: Build) -> bool:
    """Whether `build` has a positional argument."""
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)
