"""An output directory that is no folder of this machine: a sweep works in a local one and is copied there."""

from __future__ import annotations

import logging
from pathlib import Path

from pyarrow.fs import LocalFileSystem, copy_files

from vi_dist.errors import SpecError
from vi_dist.model.storage import file_system, is_address

log = logging.getLogger(__name__)

LOCAL = "vi-dist-out"


def local_output(output_dir: str | None) -> Path:
    """Where a sweep writes while it runs: its output directory, or one here if that is an address.

    Raises `SpecError` if there is no such place, or nothing can be written to it.
    """
    if output_dir is None or not is_address(output_dir):
        return Path(output_dir or LOCAL).absolute()
    try:
        filesystem, path = file_system(output_dir)
        filesystem.create_dir(path, recursive=True)
    except (OSError, ValueError, ImportError) as error:
        reason = f"nothing can be written to {output_dir!r}: {type(error).__name__}: {error}"
        raise SpecError(reason, key="output_dir") from error
    return Path(LOCAL).absolute()


def publish(directory: Path, output_dir: str) -> None:
    """Copy a sweep's directory to its output directory; a fault costs nobody the sweep."""
    target = f"{output_dir.rstrip('/')}/{directory.name}"
    try:
        filesystem, path = file_system(target)
        filesystem.create_dir(path, recursive=True)
        copy_files(
            str(directory), path, source_filesystem=LocalFileSystem(), destination_filesystem=filesystem
        )
    except Exception as error:  # networks and permissions fail in many ways
        log.warning("the results in %s could not be copied to %s: %s", directory, target, error)
