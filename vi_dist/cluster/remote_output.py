"""An output directory that is no folder of this machine: a sweep works in a local one and is copied there."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyarrow.fs import LocalFileSystem, copy_files

from vi_dist.errors import SpecError
from vi_dist.model.storage import file_system, is_address
from vi_dist.redaction import redacted
from vi_dist.report.sweep_directory import SPOOL
from vi_dist.sweep.secret_addresses import SECRETS
from vi_dist.tracking.writer import TRACKER

log = logging.getLogger(__name__)

LOCAL = "vi-dist-out"
# The longest ending that a name of ours puts behind another one.
_LONGEST_OF_OURS = 8


def local_output(output_dir: str | None) -> Path:
    """Where a sweep writes while it runs: its output directory, or one here if that is an address.

    Raises `SpecError` if there is no such place, or nothing can be written to it.
    """
    check_output(output_dir)
    if output_dir is None or not is_address(output_dir):
        return Path(output_dir or LOCAL).absolute()
    with _named(output_dir):
        filesystem, path = file_system(output_dir)
        filesystem.create_dir(path, recursive=True)
    return Path(LOCAL).absolute()


def check_output(output_dir: str | None) -> None:
    """Raise `SpecError` if an output directory cannot be made or written; an address is only opened."""
    if output_dir is None or not is_address(output_dir):
        check_folder(Path(output_dir or LOCAL).absolute(), "output_dir")
        return
    check_folder(Path(LOCAL).absolute(), "output_dir")
    with _named(output_dir):
        filesystem, path = file_system(output_dir)
    if isinstance(filesystem, LocalFileSystem):
        check_folder(Path(path), "output_dir")


def check_folder(folder: Path, key: str) -> None:
    """Raise `SpecError` if a folder cannot be made, or nothing can be written to it; it is not made."""
    try:
        nearest = next(place for place in (folder, *folder.parents) if place.exists() or place.is_symlink())
        if not nearest.is_dir():
            reason = f"{str(nearest)!r} is no folder, and {str(folder)!r} was to be one"
            raise SpecError(reason, key=key, allowed=("a folder that can be written to",))
        # No rights that can be read say whether a disk is full or read only: a folder is made, and deleted.
        with tempfile.TemporaryDirectory(dir=nearest, prefix=".vi_dist_"):
            most = os.statvfs(nearest).f_namemax - _LONGEST_OF_OURS
        if too_long := [part for part in folder.parts if len(part.encode()) > most]:
            reason = f"a folder's name of {len(too_long[0].encode())} bytes is too long; at most {most}"
            raise SpecError(reason, key=key)
    except OSError as error:
        reason = f"nothing can be written to {str(folder)!r}: {error.strerror or error}"
        raise SpecError(reason, key=key, allowed=("a folder that can be written to",)) from None


@contextmanager
def _named(address: str) -> Iterator[None]:
    """Say in every error of a file system which address it is about."""
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        if isinstance(error, SpecError):
            raise
        reason = f"nothing can be written to {address!r}: {type(error).__name__}: {error}"
        raise SpecError(reason, key="output_dir") from None


def publish(directory: Path, output_dir: str) -> None:
    """Copy a sweep's directory to its output directory; a fault costs nobody the sweep."""
    target = f"{output_dir.rstrip('/')}/{directory.name}"
    try:
        filesystem, path = file_system(target)
        filesystem.create_dir(path, recursive=True)
        with tempfile.TemporaryDirectory(prefix="vi_dist_publish_") as place:
            source = _without_secrets(directory, Path(place))
            copy_files(
                str(source), path, source_filesystem=LocalFileSystem(), destination_filesystem=filesystem
            )
    except Exception as error:  # networks and permissions fail in many ways
        text = redacted(f"the results in {directory} could not be copied to {target}: {error}")
        log.warning("%s", text)


def _without_secrets(directory: Path, place: Path) -> Path:
    """A sweep's directory as others may have it: itself, or a copy without the passwords that only its owner reads."""
    tracker = directory / SPOOL / TRACKER
    uri = tracker.read_text() if tracker.exists() else ""
    if not (directory / SECRETS).exists() and redacted(uri) == uri:
        return directory
    copy = place / directory.name
    shutil.copytree(directory, copy, ignore=shutil.ignore_patterns(f"{SECRETS}*"))
    (copy / SPOOL / TRACKER).write_text(redacted(uri))
    return copy
