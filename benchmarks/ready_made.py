"""An executor whose workers compute nothing: they answer every call at once with a chunk that was made beforehand.

What a sweep on it takes is the driver's own time: handing out packs, keeping answers, tables, records.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch

from vi_dist.cluster.executor import Executor, Handle
from vi_dist.cluster.inline_executor import InlineExecutor
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import CURVES, Chunk, Evaluated, Outcome, PackTask, Place, StepKind

CHUNK_STEPS = 50
"""Steps of every chunk but a pack's last."""
COORDINATES = 10
"""Of the model that the answers are about; a mean-field guide has two numbers for each."""
_STATE_BYTES = 4 * 6 * 2 * COORDINATES
"""Bytes that a column's state takes: its numbers, Adam's two moments, two averages."""
_KIND = StepKind("flat", "", compiled=False, decision="nothing is computed")


class ReadyMadeExecutor(Executor):
    """So many workers; each call is answered when it is waited for, one call a turn as on Ray.

    Args:
        workers: how many.

    Attributes:
        chunks: chunks that were answered.
        seconds: processor time of this process between `open` and `close`.
    """

    def __init__(self, workers: int) -> None:
        self.workers, self.chunks, self.seconds = workers, 0, 0.0
        self._answers: dict[Handle, Any] = {}
        self._waiting: deque[Handle] = deque()
        self._began = 0.0
        self._number = 0

    def open(self, setup: Setup, packs: int) -> int:
        self._began = time.process_time()
        return min(self.workers, packs)

    def submit(self, worker: int, method: str, *arguments: Any) -> Handle:
        self._number += 1
        handle: Hashable = self._number
        self._answers[handle] = (worker, method, arguments)
        self._waiting.append(handle)
        return handle

    def wait(self, handles: Sequence[Handle], timeout: float) -> list[Handle]:
        return [self._waiting.popleft()]

    def result(self, handle: Handle) -> Any:
        worker, method, arguments = self._answers.pop(handle)
        if method == "place":
            return Place(worker, f"node{worker // 64}", "cpu")
        if method == "evaluate":
            return _evaluated(arguments[0])
        self.chunks += 1
        return self._chunk(*arguments)

    def replace(self, worker: int) -> None:
        raise AssertionError("a worker that computes nothing does not die")

    def close(self) -> None:
        self.seconds = self.seconds or time.process_time() - self._began

    def _chunk(self, task: PackTask, state: bytes | None, steps: int) -> Chunk:
        """A second of steps of every configuration, whose ELBOs rise."""
        n = len(task.configurations)
        before = 0 if state is None else int.from_bytes(state[:8], "little")
        after = min(before + CHUNK_STEPS, task.steps)
        curve = np.linspace(-1.0, -0.5, after - before, dtype=np.float32)[:, None].repeat(n, axis=1)
        now = time.time_ns() // 1_000_000
        return Chunk(
            state=after.to_bytes(8, "little") + bytes(_STATE_BYTES * task.width),
            before=np.full(n, before),
            after=np.full(n, after),
            skipped=np.zeros(n, dtype=np.int64),
            alive=np.ones(n, dtype=bool),
            curves=dict.fromkeys(CURVES, curve),
            began_ms=now - 1000,
            ended_ms=now,
            seconds=1.0,
            preparing=0.0,
            kind=_KIND,
        )


def _evaluated(task: PackTask) -> Evaluated:
    """Outcomes whose ELBO is a function of the learning rate, so that they have an order."""
    outcomes = tuple(
        Outcome(
            "finished",
            f"Took all {configuration.steps} steps.",
            steps=configuration.steps,
            elbo=-30.0 - configuration.learning_rate,
            elbo_se=0.01,
            iw_elbo=-29.9,
            khat=0.5,
            converged="yes",
            elbo_change=0.01,
            moved=0.01,
            leaves={"loc": torch.zeros(COORDINATES), "raw_scale": torch.zeros(COORDINATES)},
        )
        for configuration in task.configurations
    )
    return Evaluated(outcomes, 1.0, 0.0)


class TimedInlineExecutor(InlineExecutor):
    """The worker in this process; `seconds` is the processor time that its calls took."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def wait(self, handles: Sequence[Handle], timeout: float) -> list[Handle]:
        began = time.process_time()
        try:
            return super().wait(handles, timeout)
        finally:
            self.seconds += time.process_time() - began
