"""The states of packs under way, on disk: the newest, and the one before it until the newest is safe."""

from __future__ import annotations

import logging
import os
import re
import threading
from contextlib import suppress
from pathlib import Path

from vi_dist.checked_files import reach_disk, set_aside
from vi_dist.framed import framed, unframed

log = logging.getLogger(__name__)

REST_SECONDS = 0.5
"""Between two times that superseded states are removed."""

_NAME = re.compile(r"(\d+)\.(\d+)\.state")


class PackStates:
    """Files ``<pack>.<chunks>.state`` of a journal, each one framed record.

    A state is removed once two later ones are there and the newest of them, with the answers that lead to it, has
    reached the disk. A thread sees to that every so often, so that the driver waits for no disk and the disk is asked
    about the newest states alone.

    Args:
        directory: the journal's.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._found = self._numbers()
        self._there = {pack: set(numbers) for pack, numbers in self._found.items()}
        self._superseded: dict[int, tuple[int, int]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def write(self, pack: int, chunks: int, state: bytes) -> None:
        """Keep the state of a pack after so many chunks."""
        self._path(pack, chunks).write_bytes(framed(state))
        with self._changed:
            self._there.setdefault(pack, set()).add(chunks)

    def newest(self, pack: int, chunks: int) -> tuple[int, bytes]:
        """The newest whole state of a pack after at most so many chunks, and after how many; 0 if there is none.

        Damaged states are named and set aside, and later states removed.
        """
        for number in sorted(self._found.get(pack, ()), reverse=True):
            path = self._path(pack, number)
            if number > chunks:
                path.unlink()
                continue
            try:
                return number, unframed(path.read_bytes())
            except ValueError as error:
                kept = set_aside(path, self._directory.parent)
                log.warning("%s is damaged (%s) and is kept as %s", path, error, kept)
        return 0, b""

    def supersede(self, pack: int, chunks: int, kept: int = 2) -> None:
        """Remove all but the newest `kept` states of a pack, once the last, after so many chunks, is on the disk."""
        with self._changed:
            self._superseded[pack] = (chunks, kept)
            if self._thread is None:
                self._thread = threading.Thread(target=self._remove_superseded, daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Wait until what is superseded is removed."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _remove_superseded(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._superseded or self._closed)
                if not self._superseded:
                    return
                batch, self._superseded = self._superseded, {}
            try:
                self._remove(batch)
            except OSError as error:
                log.warning("states in %s stay where they are: %s", self._directory, error)
            with self._changed:
                self._changed.wait_for(lambda: self._closed, REST_SECONDS)

    def _remove(self, batch: dict[int, tuple[int, int]]) -> None:
        """The states of some packs that later ones replace."""
        with self._changed:
            older = {
                pack: [number for number in self._there.get(pack, ()) if number <= chunks - kept]
                for pack, (chunks, kept) in batch.items()
            }
        replacing = [pack for pack in batch if older[pack]]
        for pack in replacing:
            with suppress(FileNotFoundError):  # a later one is there already
                reach_disk(self._path(pack, batch[pack][0]))
            reach_disk(self._directory / f"{pack}.answers")
        if replacing:
            reach_disk(self._directory)
        for pack in replacing:
            for number in older[pack]:
                self._path(pack, number).unlink(missing_ok=True)
        with self._changed:
            for pack in replacing:
                self._there[pack].difference_update(older[pack])

    def _numbers(self) -> dict[int, list[int]]:
        """Chunks after which there are states, by pack."""
        found: dict[int, list[int]] = {}
        for name in os.listdir(self._directory):
            if match := _NAME.fullmatch(name):
                found.setdefault(int(match[1]), []).append(int(match[2]))
        return found

    def _path(self, pack: int, chunks: int) -> Path:
        return self._directory / f"{pack}.{chunks}.state"
