"""Files where they are stored: on this machine, or at an address such as s3://bucket/rows.parquet."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, cast

from vi_dist.errors import ModelError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


def is_address(source: object) -> bool:
    """Whether data or results are somewhere else than in a file or folder of this machine.

    >>> is_address("s3://bucket/rows.parquet"), is_address("rows.parquet")
    (True, False)
    """
    return isinstance(source, str) and "://" in source


def located(source: str | Path) -> Path | PurePosixPath:
    """A path to take a file's name and ending from.

    >>> located("s3://bucket/rows.parquet").suffix
    '.parquet'
    """
    return PurePosixPath(str(source)) if is_address(source) else Path(source)


def file_system(address: str) -> tuple[FileSystem, str]:
    """The file system behind an address, and the path in it: pyarrow's own (s3, gs, abfs, hdfs), else fsspec's.

    Raises `ImportError`, `OSError` or `ValueError` where there is none.
    """
    from pyarrow import ArrowInvalid
    from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

    try:
        return cast("tuple[FileSystem, str]", FileSystem.from_uri(address))
    except ArrowInvalid:
        import fsspec

        found, path = fsspec.core.url_to_fs(address)
        return PyFileSystem(FSSpecHandler(found)), path


def opened(source: str | Path) -> BinaryIO:
    """A file to read from, anywhere in it: of one at an address only what is read comes here.

    Raises `ModelError` for a file that is not there or cannot be opened.
    """
    if is_address(source):
        try:
            files, path = file_system(str(source))
            return cast(BinaryIO, files.open_input_file(path))
        except (ImportError, OSError, ValueError) as error:
            raise ModelError(
                f"{source} cannot be opened: {type(error).__name__}: {str(error).splitlines()[0]}", key="data"
            ) from error
    here = Path(source)
    if not here.is_file():
        raise ModelError("there is no such file", path=here, key="data")
    return here.open("rb")


def readable(source: str | Path) -> BinaryIO | Path:
    """What numpy, pandas and pyarrow read a file from and close again; raises as `opened` does."""
    if is_address(source):
        return opened(source)
    opened(source).close()
    return Path(source)


def fingerprint(source: str | Path) -> bytes:
    """What stands for a file's content: sha256 of it; of one at an address, of where, how large and how old it is."""
    if not is_address(source):
        with Path(source).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    opened(source).close()
    files, path = file_system(str(source))
    found = files.get_file_info(path)
    return hashlib.sha256(f"{source} {found.size} {found.mtime_ns}".encode()).digest()
