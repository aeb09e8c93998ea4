"""Where workers run: the small interface that the driver needs, the same in this process and on Ray."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from vi_dist.cluster.setup import Setup

T = TypeVar("T")

Handle = Hashable
"""Stands for a call on a worker until its result is there."""


class WorkerLost(Exception):
    """A worker died; what it was doing can be done again elsewhere."""


class WorkerError(Exception):
    """A call on a worker raised; doing it again would raise again. The cause is the exception itself."""


class Executor(ABC):
    """Runs calls on workers, each worker one call at a time.

    The order of use: `prepare` and `ready` (optional), `open`, then `submit`, `wait`, `result` and `replace`,
    and `close`.

    Attributes:
        concurrent: whether calls are under way once submitted, rather than when they are waited for.
    """

    concurrent: bool = True

    def prepare(self) -> None:
        """Begin what takes time and needs no model, and return at once."""
        return

    def ready(self, timeout: float) -> bool:
        """Return whether what `prepare` began is done, after `timeout` seconds at most.

        Raises `SpecError` if it has failed.
        """
        return True

    def on_shards(self, function: Callable[[Setup, int], T], setup: Setup) -> list[T]:
        """What a function says of each shard (setup and rank), called where the shard's rows may be.

        Before `open`. What the function raises comes through.
        """
        assert setup.shards is not None, "a setup with shards"
        return [function(setup, rank) for rank in range(setup.shards.count)]

    @abstractmethod
    def open(self, setup: Setup, packs: int) -> int:
        """Start workers, at most one per pack; returns how many. Raises `SpecError` where none can run."""

    @abstractmethod
    def submit(self, worker: int, method: str, *arguments: Any) -> Handle:
        """Call a method of a worker (`PackWorker`), to be waited for."""

    @abstractmethod
    def wait(self, handles: Sequence[Handle], timeout: float) -> list[Handle]:
        """Those of the handles whose results are there, at least one unless `timeout` seconds pass."""

    @abstractmethod
    def result(self, handle: Handle) -> Any:
        """The result of a call that is done. Raises `WorkerLost` or `WorkerError`."""

    def recalled(self, handle: Handle) -> bool:
        """Whether a call's result was known from an earlier process, so that it took none of this one's time."""
        return False

    @abstractmethod
    def replace(self, worker: int) -> None:
        """Start a fresh worker in place of one that died."""

    @abstractmethod
    def close(self) -> None:
        """End the workers, whatever they do."""

    def missing(self) -> str:
        """What a worker that does not start is waiting for; empty if nobody knows."""
        return ""
