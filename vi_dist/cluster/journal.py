"""What workers answered, on disk: a sweep whose driver died is run again, and told what is known already."""

from __future__ import annotations

import pickle
import shutil
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vi_dist.cluster.executor import Executor, Handle
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.sweep_files import replace_file
from vi_dist.cluster.task import Chunk, Evaluated, PackTask
from vi_dist.errors import SpecError
from vi_dist.tracking.lock import FileLock

# Bytes before an answer that say how long it is: one that a crash tore is not taken for a whole one.
_LENGTH = 8


@dataclass(frozen=True, eq=False)
class _Known:
    """A call whose answer is known."""

    answer: Chunk | Evaluated


class Journal(Executor):
    """An executor that writes down what another one's workers answer, and does not ask twice.

    What a driver does follows from the answers it gets. So a sweep that died is resumed by running it again over its
    journal: packs that had ended end at once, those under way go on from their last state.

    Args:
        executor: asked for what is not known.
        directory: of the journal; for each pack ``<index>.answers`` and the state after the last of them.

    Raises `SpecError` while another process writes it.
    """

    def __init__(self, executor: Executor, directory: Path) -> None:
        self._executor, self._directory = executor, directory
        self.concurrent = executor.concurrent
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(directory / "lock")
        if not self._lock.acquire():
            raise SpecError("this sweep is under way in another process", path=directory.parent)
        self._known = {int(file.stem): self._read(file) for file in directory.glob("*.answers")}
        self._chunks = {
            index: sum(isinstance(answer, Chunk) for answer in answers)
            for index, answers in self._known.items()
        }
        self._asked: dict[Handle, int] = {}

    def prepare(self) -> None:
        self._executor.prepare()

    def open(self, setup: Setup, packs: int) -> int:
        return self._executor.open(setup, packs)

    def submit(self, worker: int, method: str, *arguments: Any) -> Handle:
        if not arguments or not isinstance(arguments[0], PackTask):
            return self._executor.submit(worker, method, *arguments)
        index = arguments[0].index
        answers = self._known.get(index)
        if answers and isinstance(answers[0], Evaluated) and method != "evaluate":
            answers.clear()  # a limit ended the pack where it stood, and does not now
        if answers:
            return _Known(answers.popleft())
        handle = self._executor.submit(worker, method, *arguments)
        self._asked[handle] = index
        return handle

    def wait(self, handles: Sequence[Handle], timeout: float) -> list[Handle]:
        known: list[Handle] = [handle for handle in handles if isinstance(handle, _Known)]
        return known or self._executor.wait(handles, timeout)

    def recalled(self, handle: Handle) -> bool:
        return isinstance(handle, _Known)

    def result(self, handle: Handle) -> Any:
        if isinstance(handle, _Known):
            return handle.answer
        index = self._asked.pop(handle, None)
        answer = self._executor.result(handle)
        if index is not None:
            self._write(index, answer)
        return answer

    def replace(self, worker: int) -> None:
        self._executor.replace(worker)

    def close(self) -> None:
        self._executor.close()
        self._lock.release()

    def forget(self) -> None:
        """Remove the journal of a sweep that is over."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def missing(self) -> str:
        return self._executor.missing()

    def _write(self, index: int, answer: Chunk | Evaluated) -> None:
        """Keep an answer; the state it leads to is there before it, and the one before it until then."""
        before = self._chunks.get(index, 0)
        if isinstance(answer, Chunk):
            self._chunks[index] = before + 1
            replace_file(self._state(index, before + 1), answer.state)
            answer = replace(answer, state=b"")
        content = pickle.dumps(answer)
        with (self._directory / f"{index}.answers").open("ab") as file:
            file.write(len(content).to_bytes(_LENGTH, "little") + content)
        if self._chunks.get(index, 0) > before:
            self._state(index, before).unlink(missing_ok=True)

    def _read(self, file: Path) -> deque[Chunk | Evaluated]:
        """A pack's answers, the last chunk with its state; a torn end is cut off."""
        answers: list[Chunk | Evaluated] = []
        content, place = file.read_bytes(), 0
        while len(content) >= place + _LENGTH:
            end = place + _LENGTH + int.from_bytes(content[place : place + _LENGTH], "little")
            if end > len(content):
                break
            answer = pickle.loads(content[place + _LENGTH : end])  # noqa: S301 - written by this class
            if answers and isinstance(answers[-1], Evaluated):
                answers.pop()  # of a pack that a limit had ended, and that went on after all
            answers.append(answer)
            place = end
        if place < len(content):
            with file.open("r+b") as torn:
                torn.truncate(place)
        chunks = [number for number, answer in enumerate(answers) if isinstance(answer, Chunk)]
        if chunks:
            last = answers[chunks[-1]]
            assert isinstance(last, Chunk)
            answers[chunks[-1]] = replace(last, state=self._state(int(file.stem), len(chunks)).read_bytes())
        return deque(answers)

    def _state(self, index: int, chunks: int) -> Path:
        """The state of a pack after so many chunks."""
        return self._directory / f"{index}.{chunks}.state"
