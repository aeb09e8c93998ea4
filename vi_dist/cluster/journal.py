"""What workers answered, on disk: a sweep whose driver died is run again, and told what is known already."""

from __future__ import annotations

import logging
import shutil
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vi_dist.checked_files import replace_file, set_aside
from vi_dist.cluster import answer_bytes
from vi_dist.cluster.executor import Executor, Handle
from vi_dist.cluster.pack_states import PackStates
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import Chunk, Evaluated, PackTask
from vi_dist.errors import SpecError
from vi_dist.framed import framed, read_records
from vi_dist.tracking.lock import FileLock

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Known:
    """A call whose answer is known."""

    answer: Chunk | Evaluated


class Journal(Executor):
    """An executor that writes down what another one's workers answer, and does not ask twice.

    What a driver does follows from the answers it gets. So a sweep that died is resumed by running it again over its
    journal: packs that had ended end at once, those under way go on from their last state. An answer or a state that is
    damaged is named, set aside and computed again, with all that came after it in its pack.

    Args:
        executor: asked for what is not known.
        directory: of the journal; for each pack ``<index>.answers`` and its `PackStates`.
        unstored: packs whose state elsewhere is lost. Their last answer is asked for once more, so that whoever has to
            give it takes the steps that lead to the state again.

    Raises `SpecError` while another process writes it.
    """

    def __init__(self, executor: Executor, directory: Path, unstored: Collection[int] = ()) -> None:
        self._executor, self._directory = executor, directory
        self.concurrent = executor.concurrent
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(directory / "lock")
        if not self._lock.acquire():
            raise SpecError("this sweep is under way in another process", path=directory.parent)
        self._states = PackStates(directory)
        self._known = {int(file.stem): self._read(file) for file in directory.glob("*.answers")}
        for index in unstored:
            self._forget_outcomes(index)
        self._chunks = {
            index: sum(isinstance(answer, Chunk) for answer in answers)
            for index, answers in self._known.items()
        }
        self._asked: dict[Handle, int] = {}
        self._unread = 0

    def prepare(self) -> None:
        self._executor.prepare()

    def ready(self, timeout: float) -> bool:
        return self._executor.ready(timeout)

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
            self._unread += 1
            return _Known(answers.popleft())
        handle = self._executor.submit(worker, method, *arguments)
        self._asked[handle] = index
        return handle

    def wait(self, handles: Sequence[Handle], timeout: float) -> list[Handle]:
        known: list[Handle] = []
        if self._unread:
            known = [handle for handle in handles if isinstance(handle, _Known)]
        return known or self._executor.wait(handles, timeout)

    def recalled(self, handle: Handle) -> bool:
        return isinstance(handle, _Known)

    def result(self, handle: Handle) -> Any:
        if isinstance(handle, _Known):
            self._unread -= 1
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
        self._states.close()
        self._lock.release()

    def forget(self) -> None:
        """Remove the journal of a sweep that is over."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def missing(self) -> str:
        return self._executor.missing()

    def _write(self, index: int, answer: Chunk | Evaluated) -> None:
        """Keep an answer; the state it leads to is there before it."""
        chunks = self._chunks.get(index, 0)
        if isinstance(answer, Chunk):
            chunks += 1
            self._chunks[index] = chunks
            self._states.write(index, chunks, answer.state)
        with (self._directory / f"{index}.answers").open("ab") as file:
            file.write(framed(answer_bytes.to_bytes(answer)))
        self._states.supersede(index, chunks, kept=2 if isinstance(answer, Chunk) else 1)

    def _read(self, file: Path) -> deque[Chunk | Evaluated]:
        """A pack's answers up to its newest state, the last chunk with that; what comes behind is cut off."""
        index, content = int(file.stem), file.read_bytes()
        answers, ends, fault = _answers(content)
        chunks = [number for number, answer in enumerate(answers) if isinstance(answer, Chunk)]
        state = b""
        if chunks:
            known, state = self._states.newest(index, len(chunks))
            if known < len(chunks):
                fault = fault or f"there is no whole state after chunk {len(chunks)}"
                answers = answers[: chunks[known - 1] + 1] if known else []
                chunks = chunks[:known]
        whole = content[: ends[len(answers) - 1]] if answers else b""
        if fault:
            kept = set_aside(file, self._directory.parent)
            words = "%s is damaged (%s) and is kept as %s; steps after chunk %d of pack %d are taken again"
            log.warning(words, file, fault, kept, len(chunks), index)
        if len(whole) < len(content):
            replace_file(file, whole)
        if chunks:
            last = answers[chunks[-1]]
            assert isinstance(last, Chunk)
            answers[chunks[-1]] = replace(last, state=state)
        # One that another answer follows is of a pack that a limit had ended, and that went on after all.
        over = [number for number, answer in enumerate(answers[:-1]) if isinstance(answer, Evaluated)]
        return deque(answer for number, answer in enumerate(answers) if number not in over)

    def _forget_outcomes(self, index: int) -> None:
        """Remove the evaluation that ends a pack's answers; the steps before it stay known."""
        answers = self._known.get(index)
        if not answers or not isinstance(answers[-1], Evaluated):
            return
        answers.pop()
        file = self._directory / f"{index}.answers"
        content = file.read_bytes()
        _, ends, _ = _answers(content)
        replace_file(file, content[: ends[-2]] if len(ends) > 1 else b"")


def _answers(content: bytes) -> tuple[list[Chunk | Evaluated], list[int], str]:
    """The whole answers at the beginning of a file, where each ends, and what is wrong with the next one."""
    records = read_records(content)
    answers: list[Chunk | Evaluated] = []
    for payload in records.payloads:
        try:
            answers.append(answer_bytes.from_bytes(payload))
        except ValueError as error:
            return answers, records.ends, str(error)
    return answers, records.ends, records.fault
