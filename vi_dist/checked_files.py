"""Files that carry their own checksum and length, and that are whole on the disk before they replace others.

A checked file holds, somewhere in its text or its metadata, one mark ``vi_dist.sha256:<digest>:<length>``. The digest
is the SHA-256 of the file with a mark of zeros in that place, so the format of the file does not matter: JSON, YAML,
safetensors, Parquet. Stands beside the layers.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

from vi_dist.errors import DamagedFile

CHECKSUM = "checksum"
"""The key or attribute that holds the mark, where a format has names."""
_NAME, _DIGITS = b"vi_dist.sha256:", 15
EMPTY_MARK = (_NAME + b"0" * 64 + b":" + b"0" * _DIGITS).decode()
"""What a file holds in its mark's place until `sealed` fills it in."""
_MARK = re.compile(re.escape(_NAME) + rb"[0-9a-f]{64}:[0-9]{%d}" % _DIGITS)
_CHECKED_SUFFIXES = (".json", ".yaml", ".safetensors", ".parquet")
DRAFT, SET_ASIDE = ".new", "set-aside"
# Of a larger file it is remembered that it is whole, until its times say that it has changed.
_SMALL = 1 << 23


def sealed(content: bytes) -> bytes:
    """The content of a file with its mark, of which it holds an empty one, filled in."""
    place = content.index(EMPTY_MARK.encode())
    return content[:place] + _mark(content, place) + content[place + len(EMPTY_MARK) :]


def sealed_json(data: Mapping[str, Any]) -> bytes:
    """A mapping as the text of a checked JSON file, for `read_json`."""
    return sealed(json.dumps({CHECKSUM: EMPTY_MARK, **data}, indent=1).encode())


def seal_file(path: Path, *, durable: bool = True) -> None:
    """Fill in the empty mark of a file, the last one where there are several; `durable` as for `replace_file`."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        place = content.rfind(EMPTY_MARK.encode())
        content[place : place + len(EMPTY_MARK)] = _mark(content, place)
        if durable:
            content.flush()
            os.fsync(file.fileno())


def replace_file(path: Path, content: bytes, *, durable: bool = True) -> Path:
    """Write a file so that its name always stands for a whole one, also after the machine went down.

    Without `durable` that is so after a crash of the process alone: for what could be computed again until
    `reach_disk` is called.
    """
    draft = path.with_name(path.name + DRAFT)
    with draft.open("wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    return replace_by(path, draft, durable=durable)


def replace_by(path: Path, draft: Path, *, durable: bool = True) -> Path:
    """Give a draft, which is on the disk already, the name of the file that it replaces."""
    os.replace(draft, path)
    if durable:
        reach_disk(path.parent)
    return path


def reach_disk(path: Path) -> None:
    """Return once a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check(path: Path, cure: str = "") -> bool:
    """Whether a file carries a checksum, which is then right.

    A file without one is accepted where no file beside it has one, as in a directory of an earlier version.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFile: it is not what was written; `cure` says what to do.
    """
    fault, marked = _fault(path)
    if fault:
        raise DamagedFile(fault, path=path, cure=cure)
    return marked


def read_checked(path: Path, cure: str = "") -> bytes:
    """The content of a file that passes `check`."""
    check(path, cure)
    return path.read_bytes()


def read_json(path: Path, cure: str = "") -> dict[str, Any]:
    """What `sealed_json` was given, or what an older JSON file without a checksum holds; raises as `check` does."""
    content = read_checked(path, cure)
    with reading(path, "JSON", cure):
        data = json.loads(content)
        if not isinstance(data, dict):
            raise TypeError("not a mapping")
    data.pop(CHECKSUM, None)
    return data


@contextmanager
def reading(path: Path, form: str, cure: str = "") -> Iterator[None]:
    """Turn whatever a reader raises into `DamagedFile`: the file is not of its form."""
    try:
        yield
    except (FileNotFoundError, DamagedFile):
        raise
    except Exception as error:  # every reader has its own
        words = " ".join(str(error).split())[:200]
        raise DamagedFile(
            f"is damaged: it cannot be read as {form} ({words})", path=path, cure=cure
        ) from error


def set_aside(path: Path, root: Path) -> Path:
    """Move a damaged file to the folder ``set-aside`` of its sweep, so that nothing reads it; returns its new path."""
    folder = root / SET_ASIDE
    folder.mkdir(exist_ok=True)
    name = "-".join(path.relative_to(root).parts)
    target = next(each for number in count(1) if not (each := folder / f"{name}.{number}").exists())
    os.replace(path, target)
    return target


def _fault(path: Path) -> tuple[str, bool]:
    """What is wrong with a file, empty if nothing is, and whether it carries a checksum."""
    if not path.is_file():
        if path.exists():
            return "is damaged: it is no file", False
        raise FileNotFoundError(path)
    about = path.stat()
    if about.st_size <= _SMALL:
        return _fault_of(path, about.st_size)
    return _known_fault_of(path, about.st_size, about.st_ctime_ns, about.st_ino)


@lru_cache(maxsize=64)
def _known_fault_of(path: Path, size: int, changed: int, inode: int) -> tuple[str, bool]:
    """As `_fault`; the last two tell that a file is another one than the last time."""
    return _fault_of(path, size)


def _fault_of(path: Path, size: int) -> tuple[str, bool]:
    if not size:
        return "is damaged: it is empty", False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = _MARK.search(content)
        if found is not None:
            mark, place = found.group(), found.start()
            length = int(mark[-_DIGITS:])
            if mark == _mark(content, place):
                return "", True
    if found is None:
        if path.suffix in _CHECKED_SUFFIXES and _stands_among_checked(path):
            return "is damaged: its checksum is missing", False
        return "", False
    if length != size:
        return f"is damaged: it holds {size} bytes and was written with {length}", True
    return "is damaged: its content does not match its checksum", True


def _mark(content: bytes | mmap.mmap, place: int) -> bytes:
    """The mark of a content that has one, of whatever digest, at a place."""
    digest = hashlib.sha256()
    with memoryview(content) as view:
        digest.update(view[:place])
        digest.update(EMPTY_MARK.encode())
        digest.update(view[place + len(EMPTY_MARK) :])
        return _NAME + f"{digest.hexdigest()}:{len(view):0{_DIGITS}d}".encode()


def _stands_among_checked(path: Path) -> bool:
    """Whether a file in the same folder, or in the one above, carries a checksum."""
    for folder in (path.parent, path.parent.parent):
        for other in sorted(folder.iterdir()):
            if other == path or other.suffix not in _CHECKED_SUFFIXES or not other.is_file():
                continue
            if _MARK.search(other.read_bytes()):
                return True
    return False
