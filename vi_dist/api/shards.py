"""Shards as a spec asks for them, and what cannot be had together with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vi_dist.cluster.columns import column
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.sharding import Sharding
from vi_dist.errors import SpecError
from vi_dist.model.shard_rows import count_rows
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.spec import SweepSpec
from vi_dist.vi.estimators import check_minibatches

ROWS_PER_SHARD = 500_000
"""What ``shards: auto`` gives a shard at most."""


def with_shards(setup: Setup, spec: SweepSpec, configurations: Sequence[Configuration]) -> Setup:
    """The setup with the spec's shards, if it asks for any. Raises `SpecError` for what shards cannot do."""
    if spec.shards is None:
        if isinstance(spec.data, list) and len(spec.data) > 1:
            raise SpecError("several files are read by shards alone; write shards: 1 or more", key="data")
        if spec.group_by is not None:
            raise SpecError("group_by says which rows stay in one shard; write shards too", key="group_by")
        if spec.batch_size is not None:
            raise SpecError(
                "batch_size is a number of rows of each shard; write shards too, of which 1 is enough",
                key="batch_size",
            )
        if spec.checkpoint_dir is not None:
            raise SpecError(
                "checkpoint_dir is where shards keep their states; write shards too, or delete it (a sweep without "
                "shards keeps all in its own directory)",
                key="checkpoint_dir",
            )
        return setup
    if spec.biased_minibatches and spec.batch_size is None:
        raise SpecError(
            "biased_minibatches is about batches, of which there are none; write batch_size too, or delete it",
            key="biased_minibatches",
        )
    if spec.batch_size is not None:
        _check_batches(spec, configurations)
    if setup.data is None:
        raise SpecError(
            "the model has no data, so there are no rows to shard; leave shards out", key="shards"
        )
    return replace(setup, shards=sharding(spec, setup.data))


def _check_batches(spec: SweepSpec, configurations: Sequence[Configuration]) -> None:
    """Raise `SpecError` where batches of rows would train something else."""
    if spec.group_by is not None:
        raise SpecError(
            "group_by and batch_size do not go together: a batch may hold a part of a group; leave one of them out",
            key="batch_size",
        )
    if spec.biased_minibatches:
        return
    for configuration in configurations:
        found = column(configuration)
        try:
            check_minibatches(found.divergence, found.estimator, "biased_minibatches: true")
        except SpecError as error:
            key = f"space.{error.key}"
            raise SpecError(error.message, key=key, allowed=error.allowed) from error


def sharding(spec: SweepSpec, data: object) -> Sharding | None:
    """How a spec cuts data; None where it does not. ``auto`` looks at the number of rows alone."""
    if spec.shards is None:
        return None
    count = spec.shards
    if not isinstance(count, int):
        count = max(1, -(-count_rows(data, spec.columns) // ROWS_PER_SHARD))
    return Sharding(count, spec.group_by, batch_size=spec.batch_size)
