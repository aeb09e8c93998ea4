"""Workers as Ray actors, on a cluster or on a local Ray started for the occasion."""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError

from vi_dist.cluster.executor import Executor, Handle, WorkerError, WorkerLost
from vi_dist.cluster.local_ray import LocalRay
from vi_dist.cluster.ray_token import check_token
from vi_dist.errors import SpecError
from vi_dist.uncollected import uncollected

if TYPE_CHECKING:
    from vi_dist.cluster.setup import Setup

log = logging.getLogger(__name__)

KNOCK_SECONDS = 10.0
WAIT_SECONDS = 0.2


class PackActor:
    """A `PackWorker` in a process of its own, on the device that Ray assigned to it."""

    def __init__(self, setup: Setup) -> None:
        with uncollected():
            import torch
            import torch._dynamo  # which tracing a step imports

            from vi_dist.cluster.worker import PackWorker

        assigned = bool(ray.get_gpu_ids()) and torch.cuda.is_available()
        self._worker = PackWorker(setup, "cuda" if assigned else "cpu")

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the worker."""
        return getattr(self._worker, method)(*arguments)


class RayExecutor(Executor):
    """Actors that own packs one at a time.

    Ray's own restarts are off: a fresh actor would have lost its state, which the driver keeps.

    Args:
        address: of a running cluster; without one a job uses its own cluster, and any other driver a local Ray that
            ends with it.
        max_actors: upper limit; without one as many as the cluster's resources hold.
        cpus: CPUs, and threads, of an actor.
        gpus: GPUs of an actor, also a fraction; None is one where the cluster has any.
    """

    def __init__(
        self,
        address: str | None = None,
        max_actors: int | None = None,
        cpus: float = 1.0,
        gpus: float | None = None,
    ) -> None:
        self.address, self.max_actors, self.cpus, self.gpus = address, max_actors, cpus, gpus
        self._session: LocalRay | None = None
        self._connected = False
        self._actors: list[Any] = []
        self._setup: Any = None

    def prepare(self) -> None:
        """Start a local Ray in the background, if it is to be one.

        Raises `SpecError` if the cluster of a given address is not there.
        """
        if self.address:
            _knock(self.address)
        elif not ray.is_initialized() and self._session is None and self._existing() is None:
            self._session = LocalRay(self._environment)

    def ready(self, timeout: float) -> bool:
        return self._session is None or self._session.wait(timeout)

    def open(self, setup: Setup, packs: int) -> int:
        self._connect()
        if self.gpus is None:
            self.gpus = 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0
        if self._session is not None:
            self._check_fits()
        self._setup = ray.put(setup)
        count = min(packs, self._capacity() if self.max_actors is None else self.max_actors)
        self._actors = [self._spawn() for _ in range(max(1, count))]
        return len(self._actors)

    def submit(self, worker: int, method: str, *arguments: Any) -> Handle:
        reference: Handle = self._actors[worker].call.remote(method, *arguments)
        return reference

    def wait(self, handles: Sequence[Handle], timeout: float) -> list[Handle]:
        self._check_session()
        calls = list(handles)
        # All that are there at once: to ask for one of two thousand takes as long as to ask for all of them.
        done, _ = ray.wait(calls, num_returns=len(calls), timeout=0) if calls else ([], [])
        if not done:
            done, _ = ray.wait(calls, num_returns=1, timeout=timeout)
        return list(done)

    def result(self, handle: Handle) -> Any:
        assert isinstance(handle, ray.ObjectRef)
        try:
            return ray.get(handle)
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise WorkerError(str(cause)) from cause
        except RayError as error:
            raise WorkerLost(" ".join(str(error).split("\n")[0].split())) from error

    def replace(self, worker: int) -> None:
        self._actors[worker] = self._spawn()

    def close(self) -> None:
        if ray.is_initialized():
            for actor in self._actors:
                ray.kill(actor)
        self._actors, self._setup = [], None
        if self._session is not None:
            self._session.close()
            self._session = None
        if self._connected:
            ray.shutdown()
            self._connected = False

    def missing(self) -> str:
        there, free = ray.cluster_resources(), ray.available_resources()
        wanted = {kind: amount for kind, amount in (("CPU", self.cpus), ("GPU", self.gpus or 0.0)) if amount}
        for kind, amount in wanted.items():
            if amount > there.get(kind, 0):
                return f"a worker needs {amount:g} {kind} and the cluster has {there.get(kind, 0):g}"
        taken = " and ".join(f"{free.get(kind, 0):g} of {there[kind]:g} {kind}" for kind in wanted)
        return f"workers are starting ({taken} free)"

    def _check_session(self) -> None:
        """Raise `RuntimeError` if our own Ray has died."""
        if self._session is not None:
            self._session.check()

    def _check_fits(self) -> None:
        """Raise `SpecError` for a worker that needs more than this machine has: no other node will ever join it."""
        there = ray.cluster_resources()
        if not there.get("CPU"):  # Ray has started, and has not counted yet
            return
        wanted = {"cpus_per_actor": ("CPU", self.cpus), "gpus_per_actor": ("GPU", self.gpus or 0.0)}
        for key, (kind, amount) in wanted.items():
            if amount > (has := there.get(kind, 0.0)):
                raise SpecError(
                    f"a worker needs {amount:g} {kind} and this machine has {has:g}",
                    key=key,
                    allowed=(f"a number, at most {has:g}",),
                )

    def _existing(self) -> str | None:
        """The address of a cluster that is there: the one given, or a job's own."""
        return self.address or ("auto" if os.environ.get("RAY_ADDRESS") else None)

    def _connect(self) -> None:
        if ray.is_initialized():
            return
        address = self._existing()
        if address is None:
            self.prepare()
            assert self._session is not None
            while not self._session.wait(WAIT_SECONDS):
                pass
            return
        check_token(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            first = str(error).strip().split("\n")[0]
            raise SpecError(f"no Ray cluster answers at {address!r}: {first}", key="address") from error
        self._connected = True

    def _capacity(self) -> int:
        """How many actors the cluster's resources hold, at least one: a missing resource is waited for."""
        there = ray.cluster_resources()
        counts = [there.get("CPU", 0) / self.cpus]
        if self.gpus:
            counts.append(there.get("GPU", 0) / self.gpus)
        return max(1, math.floor(min(counts) + 1e-9))

    @property
    def _environment(self) -> dict[str, str]:
        """What an actor's process must have in its environment before it imports anything."""
        return {"OMP_NUM_THREADS": str(max(1, int(self.cpus))), "MKL_CBWR": "AUTO"}

    def _spawn(self) -> Any:
        # Our own Ray has it for all of its processes: actors then take those that Ray starts beforehand.
        environment = {} if self._session is not None else {"env_vars": self._environment}
        return (
            ray.remote(PackActor)
            .options(
                num_cpus=self.cpus,
                num_gpus=self.gpus or 0,
                max_restarts=0,
                max_task_retries=0,
                runtime_env=environment,
            )
            .remote(self._setup)
        )


def _knock(address: str) -> None:
    """Raise `SpecError` if nobody listens at ``host:port``: Ray itself would go on trying for many minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()
    except OSError as error:
        raise SpecError(
            f"no Ray cluster answers at {address!r} ({error.strerror or error}); start one with ray start --head, or "
            "leave the address out for a local Ray",
            key="address",
        ) from error
