"""Commits to a sqlite store that do not wait for the disk; what is acknowledged does.

MLflow commits half a dozen times for each run, and each waits two or three times for the disk. With a write-ahead log
commits are appended to one file, in order, and the disk is waited for once, before records are acknowledged: a process
that is killed loses nothing, and a machine that goes down loses at most what the spool would send again. The store is
whole at any time. When the last writer is done the store has its own journal again.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.pool import Pool

from vi_dist.tracking.environment import database, schema_lock

LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay"})
"""File systems of one machine. On any other a log would not be seen by other machines: there all stays as it is."""
_MOUNTS = Path("/proc/self/mountinfo")
_log = logging.getLogger(__name__)


@contextmanager
def quick_commits(tracking_uri: str) -> Iterator[Callable[[], None]]:
    """For an open store, while the block lasts; yields what returns once everything committed is on the disk."""
    file = database(tracking_uri)
    if file is None or not _is_local(file) or not _change(file, "delete", "wal"):
        yield lambda: None
        return
    connections: set[Any] = set()

    def ease(connection: Any, *_: object) -> None:
        connections.add(connection)
        connection.execute("pragma synchronous = normal")

    event.listen(Pool, "checkout", ease)
    try:
        yield lambda: _sync(file)
    finally:
        event.remove(Pool, "checkout", ease)
        for connection in connections:
            connection.execute("pragma synchronous = full")
            connection.close()
        _sync(file)
        _change(file, "wal", "delete")


def _change(file: Path, before: str, after: str) -> bool:
    """Another journal for the store; false if it has a third kind, or is in use, and so stays as it is."""
    lock = schema_lock(file)
    lock.wait()
    try:
        with closing(sqlite3.connect(file, timeout=1)) as connection:
            (found,) = connection.execute("pragma journal_mode").fetchone()
            if found == before:
                (found,) = connection.execute(f"pragma journal_mode = {after}").fetchone()
            return bool(found == after)
    except sqlite3.Error as fault:
        _log.info("%s keeps its journal: %s", file, fault)
        return False
    finally:
        lock.release()


def _sync(file: Path) -> None:
    """Wait until the log is on the disk; what is not in it any more is in the store, and sqlite waited for that."""
    for path, kind in ((file.with_name(f"{file.name}-wal"), os.O_RDONLY), (file.parent, os.O_DIRECTORY)):
        try:
            number = os.open(path, kind)
        except FileNotFoundError:
            continue
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _is_local(file: Path) -> bool:
    """Whether the file is on a file system that no other machine sees, as far as the kernel says."""
    try:
        lines = [line.split() for line in _MOUNTS.read_text().splitlines()]
        where = file.resolve().parents
        kinds = {Path(_plain(line[4])): line[line.index("-") + 1] for line in lines}
    except (OSError, ValueError, IndexError):
        return False
    return next((kinds[path] in LOCAL for path in where if path in kinds), False)


def _plain(path: str) -> str:
    """A path of the kernel's table, in which a space is `\\040`."""
    return path.encode("latin-1", "backslashreplace").decode("unicode_escape")
