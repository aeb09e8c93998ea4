"""One process at a time: a lock on a file that the operating system drops when its holder dies."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""What some network file systems answer: there nobody can be kept out, and work must go on."""


class FileLock:
    """An exclusive lock on ``path``, held until ``release`` or the end of the process.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "lock"
    >>> first, second = FileLock(path), FileLock(path)
    >>> first.acquire(), second.acquire()
    (True, False)
    >>> first.release(); second.acquire()
    True
    >>> second.release()
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self) -> bool:
        """Take the lock if it is free; never waits.

        Raises:
            OSError: the file cannot be created.
        """
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            if fault.errno not in _NO_LOCKS:
                os.close(file)
                if isinstance(fault, BlockingIOError):
                    return False
                raise
        self._file = file
        return True

    def wait(self) -> None:
        """Take the lock as soon as it is free."""
        while not self.acquire():
            time.sleep(0.05)

    def release(self) -> None:
        """Give the lock back; does nothing when it is not held."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
