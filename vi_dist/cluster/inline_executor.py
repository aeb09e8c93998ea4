"""The worker in this process: the same code as on Ray, in which a breakpoint works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vi_dist.cluster.executor import Executor, Handle, WorkerError
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.shard_worker import ShardWorker
from vi_dist.cluster.worker import PackWorker


def inline_worker(setup: Setup, device: str = "cpu") -> PackWorker | ShardWorker:
    """A worker in this process; of data that are cut it has all shards, one after another."""
    if setup.shards is None:
        return PackWorker(setup, device)
    return ShardWorker(setup, range(setup.shards.count), device=device)


@dataclass(frozen=True, eq=False)
class _Call:
    """A call that is made when somebody waits for it."""

    method: str
    arguments: tuple[Any, ...]


class InlineExecutor(Executor):
    """One worker, here.

    Args:
        device: where packs are stepped.
        raises: let an exception of a pack through as it is, instead of reporting the pack as failed.
    """

    concurrent = False

    def __init__(self, device: str = "cpu", raises: bool = False) -> None:
        self.device, self.raises = device, raises
        self._worker: PackWorker | ShardWorker | None = None
        self._results: dict[Handle, Any] = {}

    def open(self, setup: Setup, packs: int) -> int:
        self._worker = inline_worker(setup, self.device)
        return 1

    def submit(self, worker: int, method: str, *arguments: Any) -> Handle:
        return _Call(method, arguments)

    def wait(self, handles: Sequence[Handle], timeout: float) -> list[Handle]:
        call = handles[0]
        assert isinstance(call, _Call)
        try:
            self._results[call] = getattr(self._worker, call.method)(*call.arguments)
        except Exception as error:
            if self.raises:
                raise
            self._results[call] = error
        return [call]

    def result(self, handle: Handle) -> Any:
        result = self._results.pop(handle)
        if isinstance(result, Exception):
            raise WorkerError(str(result)) from result
        return result

    def replace(self, worker: int) -> None:
        raise AssertionError("a worker in this process cannot die before the process does")

    def close(self) -> None:
        self._worker = None
