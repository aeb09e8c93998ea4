"""Groups of Ray actors, one actor per shard, that act as one worker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from vi_dist.cluster.executor import Handle, T, WorkerError, WorkerLost
from vi_dist.cluster.process_group import GroupBroken
from vi_dist.cluster.ray_executor import RayExecutor
from vi_dist.cluster.setup import Setup
from vi_dist.errors import SpecError

log = logging.getLogger(__name__)

# How long checks of rows may take before it is said what they may be waiting for.
_PATIENCE_SECONDS = 60.0
# How long the other shards' answers are waited for when one has failed, so that the cause is told and not its echo.
_ECHO_SECONDS = 3.0


class ShardActor:
    """A `ShardWorker` of one shard in a process of its own."""

    def __init__(self, setup: Setup, rank: int) -> None:
        self._setup, self._rank = setup, rank

    def address(self) -> str:
        """Where the group can meet."""
        from vi_dist.cluster.process_group import free_address

        return free_address()

    def join(self, address: str) -> None:
        """Meet the others."""
        import torch

        from vi_dist.cluster.process_group import ProcessGroup
        from vi_dist.cluster.shard_worker import ShardWorker

        assert self._setup.shards is not None, "a setup with shards"
        device = "cuda" if bool(ray.get_gpu_ids()) and torch.cuda.is_available() else "cpu"
        self._group = ProcessGroup(self._rank, self._setup.shards.count, address, torch.device(device))
        self._worker = ShardWorker(self._setup, [self._rank], self._group.reduce, device)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the worker; all shards make the same calls, and the first one answers."""
        try:
            result = getattr(self._worker, method)(*arguments)
        except BaseException:
            self._group.leave()  # or the others would wait for this one
            raise
        return result if self._rank == 0 else None


@dataclass
class _Group:
    """One worker: the actors of all shards, where they are placed, and what tells that they have met."""

    actors: list[Any]
    placement: PlacementGroup
    joined: list[Any]


class RayShardExecutor(RayExecutor):
    """Workers that are groups of actors, each group one actor per shard, spread over nodes where there are several.

    The arguments are those of `RayExecutor`; CPUs and GPUs are those of one shard.
    """

    def on_shards(self, function: Callable[[Setup, int], T], setup: Setup) -> list[T]:
        def look(shard: Setup, rank: int) -> T:
            return function(shard, rank)  # Ray takes functions alone, and this may be a partial

        self._connect()
        task = ray.remote(look).options(num_cpus=self.cpus, scheduling_strategy="SPREAD", max_retries=1)
        pending = [task.remote(part, rank) for rank, part in enumerate(_parts(setup))]
        while ray.wait(pending, num_returns=len(pending), timeout=_PATIENCE_SECONDS)[1]:
            log.warning("the shards' rows are still being checked: %s", self.missing())
        try:
            found: list[T] = ray.get(pending)
        except RayTaskError as error:
            raise error.cause if isinstance(error.cause, SpecError) else error from None
        return found

    def open(self, setup: Setup, packs: int) -> int:
        assert setup.shards is not None, "a setup with shards"
        self._connect()
        if self.gpus is None:
            self.gpus = 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0
        count = setup.shards.count
        # Rows in memory go to their own shard alone; rows in files are read by it.
        self._setups = [ray.put(part) for part in _parts(setup)]
        room = self._capacity() if self.max_actors is None else self.max_actors
        groups = max(1, min(packs, room // count))
        self._groups = [self._make() for _ in range(groups)]
        return groups

    def submit(self, worker: int, method: str, *arguments: Any) -> Handle:
        group = self._groups[worker]
        return (*group.joined, *(actor.call.remote(method, *arguments) for actor in group.actors))

    def wait(self, handles: Sequence[Handle], timeout: float) -> list[Handle]:
        self._check_session()
        deadline = time.monotonic() + timeout
        pending = {ref for handle in handles for ref in _refs(handle)}
        ready: set[Any] = set()
        while True:
            left = max(0.0, deadline - time.monotonic())
            done, _ = ray.wait(list(pending), num_returns=1, timeout=left)
            if not done:
                return []
            ready.update(done)
            pending.difference_update(done)
            over = [handle for handle in handles if set(_refs(handle)) <= ready]
            over += [
                handle
                for handle in handles
                if handle not in over and any(map(_failed, set(_refs(handle)) & ready))
            ]
            if over:
                return over

    def result(self, handle: Handle) -> Any:
        references = _refs(handle)
        # A shard that fails makes the others fail: what they say is an echo.
        ray.wait(references, num_returns=len(references), timeout=_ECHO_SECONDS)
        ready, _ = ray.wait(references, num_returns=len(references), timeout=0)
        faults = [fault for reference in ready if (fault := _fault(reference)) is not None]
        if not faults:
            answers = ray.get(references)
            return next((answer for answer in answers if answer is not None), None)
        own = [fault for fault in faults if isinstance(fault, WorkerError)]
        if not own or any(isinstance(fault, _ActorDied) for fault in faults):
            died = next((fault for fault in faults if isinstance(fault, _ActorDied)), faults[0])
            raise WorkerLost(f"a shard's worker died ({died})")
        self._break(handle)
        raise own[0] from own[0].__cause__

    def replace(self, worker: int) -> None:
        self._end(self._groups[worker])
        self._groups[worker] = self._make()

    def close(self) -> None:
        if ray.is_initialized():
            for group in getattr(self, "_groups", []):
                self._end(group)
        self._groups = []
        super().close()

    def _break(self, handle: Handle) -> None:
        """A group in which a call raised has fallen apart: a fresh one takes its place."""
        for worker, group in enumerate(self._groups):
            if group.joined and group.joined[0] in _refs(handle):
                self.replace(worker)

    def _make(self) -> _Group:
        threads = str(max(1, int(self.cpus)))
        bundle = {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})
        placement = placement_group([bundle] * len(self._setups), strategy="SPREAD")
        actors: list[Any] = []
        for rank, setup in enumerate(self._setups):
            actors.append(
                ray.remote(ShardActor)
                .options(
                    num_cpus=self.cpus,
                    num_gpus=self.gpus or 0,
                    max_restarts=0,
                    max_task_retries=0,
                    scheduling_strategy=PlacementGroupSchedulingStrategy(placement, rank),
                    runtime_env={"env_vars": {"OMP_NUM_THREADS": threads, "MKL_CBWR": "AUTO"}},
                )
                .remote(setup, rank)
            )
        address = actors[0].address.remote()
        return _Group(actors, placement, [actor.join.remote(address) for actor in actors])

    def _end(self, group: _Group) -> None:
        for actor in group.actors:
            ray.kill(actor)
        remove_placement_group(group.placement)


class _ActorDied(Exception):
    """An actor's process is gone."""


def _refs(handle: Handle) -> list[Any]:
    assert isinstance(handle, tuple)
    return list(handle)


def _fault(reference: Any) -> Exception | None:
    """What a call that is over raised, if it did."""
    try:
        ray.get(reference)
    except RayTaskError as error:
        cause = error.cause if isinstance(error.cause, Exception) else error
        if isinstance(cause, GroupBroken):
            return cause
        fault = WorkerError(str(cause))
        fault.__cause__ = cause
        return fault
    except RayError as error:
        return _ActorDied(" ".join(str(error).split("\n")[0].split()))
    return None


def _failed(reference: Any) -> bool:
    return _fault(reference) is not None


def _parts(setup: Setup) -> list[Setup]:
    """What each shard gets: its own rows where they are in memory, else where they are stored."""
    assert setup.shards is not None, "a setup with shards"
    ranks = range(setup.shards.count)
    if isinstance(setup.data, str | list | tuple):
        return [setup for _ in ranks]
    return [replace(setup, data=setup.cut(rank)) for rank in ranks]
