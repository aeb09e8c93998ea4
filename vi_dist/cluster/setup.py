"""What a worker needs to know before it gets its first pack."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.holdout import Holdout
from vi_dist.cluster.sharding import Sharding
from vi_dist.evaluation.moments import Moments
from vi_dist.model.data import Data, digest, load_data, open_data
from vi_dist.model.shard_rows import ShardRows, shard_rows


@dataclass(frozen=True)
class Setup:
    """The part of a sweep that all its packs share; travels to every worker once.

    Args:
        build: where the model comes from.
        data: arrays by name, the path of a file to load where the worker is (of several, where they are sharded), the
            rows of the worker's own shard, or None for a model without data.
        samples: draws per evaluation.
        cpus: threads of a worker on a CPU.
        compile: whether steps are compiled: ``auto``, ``always`` or ``never``.
        evaluations: how many there will be at most, which is what compiling the log joint for them is worth.
        holdout: rows that do not train, and that guides are scored by.
        reference: means and sds of elements by name, to which the distance is measured.
        initial_values: of latents by name, for guides that start there.
        columns: names of the columns of the data that are wanted; None for all.
        shards: how the data are cut; None for data that are not.
        built: the data as they were read, and the models built on them, in this process (`prepared.prepare`). Setups
            made of this one by `dataclasses.replace` share it; it stays behind where a setup travels.
    """

    build: BuildSource
    data: Mapping[str, Any] | str | Sequence[str] | ShardRows | None = None
    samples: int = 4096
    cpus: int = 1
    compile: str = "auto"
    evaluations: int = 1
    holdout: Holdout | None = None
    reference: Moments | None = None
    shards: Sharding | None = None
    initial_values: Mapping[str, Any] | None = None
    columns: tuple[str, ...] | None = None
    built: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "built": {}}

    def version(self) -> str:
        """What configurations' keys know of the code, of the rows that a step sees, and of where guides start."""
        version = self.build.version()
        if self.shards is not None and self.shards.batch_size is not None:
            version += f" batch_size={self.shards.batch_size}"
        if self.shards is not None and self.holdout is not None:
            version += f" holdout={self.holdout.count} seed={self.holdout.seed}"
        if self.initial_values is not None:
            version += f" initial_values={digest(load_data(self.initial_values))}"
        return version

    def cut(self, rank: int) -> ShardRows:
        """The rows of a shard, those held out among them. Raises `ModelError` for data that cannot be cut."""
        assert self.shards is not None, "a setup with shards"
        if isinstance(self.data, ShardRows):
            return self.data
        return shard_rows(self.data, rank, self.shards.count, self.shards.group_by, self.columns)

    def load(self) -> Data:
        """The data where they are not cut, read once in a process. Raises `ModelError` for data that cannot be read."""
        key = ("data", self.data_key())
        if key not in self.built:
            # With what was read, whose identity is part of the key, so that it cannot be another object's later.
            self.built[key] = self.data, open_data(self.data, columns=self.columns)
        found: Data = self.built[key][1]
        return found

    def data_key(self) -> Hashable:
        """What tells these data from others in this process: files by their paths, everything else by identity."""
        data = self.data
        if isinstance(data, list | tuple):
            data = tuple(data)
        return (data if isinstance(data, str | tuple) else id(data)), self.columns
