"""The append-only file between a sweep and its tracking: a line is safe once the operating system has it.

Only the driver appends, only the writer reads, and neither waits for the other. A reader takes whole lines
only, so a line that a crash tore is never seen; it is repaired when the file is next opened for appending.
"""

from __future__ import annotations

import os
from pathlib import Path

from vi_dist.tracking.records import decode

RECORDS = "records.jsonl"


class Spool:
    """The appending end of ``<directory>/records.jsonl``; opening it repairs a torn last line.

    Raises:
        OSError: the directory or the file cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / RECORDS
        self.path.touch()
        repair(self.path)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def append(self, lines: bytes) -> None:
        """Add whole lines, or nothing.

        Raises:
            OSError: the disk is full or gone; what was written of the lines has been taken back.
        """
        size = os.fstat(self._file).st_size
        try:
            rest = memoryview(lines)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, size)
            raise

    def close(self) -> None:
        """Release the file; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class SpoolReader:
    """The reading end: whole lines from ``offset`` on.

    Args:
        path: the spool's file; it may not exist yet.
        offset: where to begin, in bytes; always the start of a line.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset

    def read(self, limit: int = 1 << 22) -> list[bytes]:
        """The next whole lines, about ``limit`` bytes, durable on disk; moves ``offset`` past them.

        MLflow takes 10 ms for a request, however little is in it: the more lines are read at once, the more of those of
        one run share a request.
        """
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            chunk = file.read(limit)
            if chunk and b"\n" not in chunk:
                chunk += file.readline()
            lines = chunk[: chunk.rfind(b"\n") + 1].splitlines(keepends=True)
            if lines:
                # The driver must not wait for the disk, so its reader does, before anything is acknowledged.
                os.fsync(file.fileno())
        self.offset += sum(map(len, lines))
        return lines

    def foresees(self, beginning: bytes, within: int = 1 << 16) -> bool:
        """Whether one of the last lines to come, in as many bytes, begins like this."""
        if not self.path.exists():
            return False
        with self.path.open("rb") as file:
            start = max(self.offset, file.seek(0, os.SEEK_END) - within)
            file.seek(start)
            tail = file.read(within)
        return b"\n" + beginning in tail or (start == self.offset and tail.startswith(beginning))


def pending(path: Path, offset: int) -> int:
    """How many whole lines stand after ``offset``."""
    reader, count = SpoolReader(path, offset), 0
    while lines := reader.read():
        count += len(lines)
    return count


def repair(path: Path) -> None:
    """Finish a torn last line if the record in it is whole, else remove it.

    Raises:
        OSError: the file cannot be read or written.
    """
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        tail = _after_last_newline(file.fileno(), size)
        if not tail:
            return
        try:
            decode(tail)
        except ValueError:
            file.truncate(size - len(tail))
        else:
            file.write(b"\n")


def _after_last_newline(file: int, size: int, block: int = 1 << 16) -> bytes:
    """The bytes after the last newline, read backwards block by block."""
    tail = b""
    while size > 0:
        start = max(0, size - block)
        tail = os.pread(file, size - start, start) + tail
        newline = tail.rfind(b"\n")
        if newline >= 0:
            return tail[newline + 1 :]
        size = start
    return tail
