"""How each kind of sweep-level value is read; a fault is a `SpecError` that gets its key from pydantic."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationInfo

from vi_dist.errors import SpecError
from vi_dist.sweep.dimension import Named
from vi_dist.sweep.parsing import parse_named
from vi_dist.sweep.points import count
from vi_dist.sweep.values import Scalar, expected, parse_value, show, unknown
from vi_dist.vi.table import Argument

_T = TypeVar("_T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]*")
_LONGEST_NAME, _LONGEST_TEXT = 200, 4096
"""A folder of the name with a time behind it has at most 255 letters; a path has at most 4,096 bytes."""
_MOST_NAMED = 20
_JOINERS = "\u200c\u200d"
"""Between the parts of an emoji and of some scripts' letters; every other letter that cannot be printed is refused."""
_TEXT = Argument(str)
_FLAG = Argument(bool)


def text(value: object) -> str:
    """Text of one line that is not empty."""
    found = str(parse_value(value, _TEXT)).strip()
    if not found:
        raise SpecError("the text is empty", allowed=("text",))
    if len(found) > _LONGEST_TEXT:
        reason = f"{show(found)} has {len(found):,} letters"
        raise SpecError(reason, allowed=(f"text of at most {_LONGEST_TEXT:,} letters",))
    if odd := [letter for letter in found if not letter.isprintable() and letter not in _JOINERS]:
        reason = f"{show(found)} holds the control character U+{ord(odd[0]):04X}"
        raise SpecError(reason, allowed=("text of one line, without control characters",))
    return found


def names(value: object) -> tuple[str, ...]:
    """Names in a list, every one once."""
    if not isinstance(value, list | tuple) or not value:
        raise SpecError(f"{show(value)} is no list of names", allowed=("for example [y, x]",))
    found = tuple(text(one) for one in value)
    if twice := [one for one in found if found.count(one) > 1][:1]:
        raise SpecError(f"{show(twice[0])} is in the list twice; write it once", allowed=("names",))
    return found


def number(value: object, argument: Argument) -> Scalar:
    """A number as `argument` wants it."""
    return parse_value(value, argument)


def number_or(value: object, word: str, argument: Argument) -> Scalar:
    """A number as `argument` wants it, or one word (``auto``)."""
    if value == word:
        return word
    try:
        return parse_value(value, argument)
    except SpecError as error:
        raise SpecError(error.message, allowed=(word, expected(argument))) from None


def word(value: object, noun: str, allowed: tuple[str, ...]) -> str:
    """One of a few words."""
    if isinstance(value, str) and value in allowed:
        return value
    if isinstance(value, str):
        raise unknown(noun, value, allowed, "")
    raise SpecError(f"{show(value)} is not a {noun}", allowed=allowed)


def flag(value: object) -> bool | None:
    """True or false, or None."""
    return None if value is None else bool(parse_value(value, _FLAG))


def optional(value: object, parse: Callable[[object], _T]) -> _T | None:
    """None, or what `parse` makes of it."""
    return None if value is None else parse(value)


def sweep_name(value: object) -> str:
    """A name that files and MLflow experiments can have."""
    found = text(value)
    if len(found) > _LONGEST_NAME:
        reason = f"{show(found)} has {len(found)} letters, too many to name files"
        raise SpecError(reason, allowed=(f"at most {_LONGEST_NAME} letters",))
    if _NAME.fullmatch(found):
        return found
    cure = re.sub(r"[^A-Za-z0-9._ -]+", "_", found).strip("_. -") or "my_sweep"
    reason = f"{show(found)} cannot name files and experiments; write for example {cure}"
    raise SpecError(reason, allowed=("letters, digits, '_', '-', '.' and spaces, a letter or digit first",))


def entry(value: object, noun: str) -> Named:
    """One entry with at most one value for each of its arguments; several belong in the space."""
    if isinstance(value, list):
        reason = f"a list of choices belongs in the space; write space: {{{noun}: [...]}}"
        raise SpecError(reason, allowed=("one entry",))
    found = parse_named(value, noun)
    for name, dimension in found.arguments:
        if count(dimension) != 1:
            reason = f"several values belong in the space; write space: {{{noun}: [{{{found.name}: ...}}]}}"
            raise SpecError(reason, key=f"{noun}.{found.name}.{name}", allowed=("one value",))
    return found


def model_path(value: object, info: ValidationInfo) -> str:
    """``model.py:build``, the file found from the spec's folder and made absolute."""
    found = text(value)
    file, colon, function = found.rpartition(":")
    if not function or not colon or function.endswith(".py") or "/" in function:
        cure = "name the function that builds the model; write for example"
        file = found.rstrip(":")
        raise SpecError(
            f"{show(found)} names no function; {cure} {file}:build", allowed=("FILE.py:FUNCTION",)
        )
    if not function.isidentifier():
        raise SpecError(f"{show(function)} is not a function's name", allowed=("FILE.py:FUNCTION",))
    path = _absolute(file, info)
    if not _is_file(path):
        raise _no_file(path, ".py", f":{function}")
    return f"{path}:{function}"


def data_path(value: object, info: ValidationInfo) -> str:
    """A data file found from the spec's folder and made absolute; a URL stays as it is."""
    found = text(value)
    if "://" in found:
        return found
    path = _absolute(found, info)
    if not _is_file(path):
        raise _no_file(path, path.suffix, "")
    return str(path)


def data_paths(value: object, info: ValidationInfo) -> str | list[str]:
    """One data file or a list of them, whose rows follow one another."""
    if isinstance(value, list | tuple):
        if not value:
            raise SpecError(
                "the list is empty; name at least one data file", allowed=("a path", "a list of paths")
            )
        return [data_path(one, info) for one in value]
    return data_path(value, info)


def folder_path(value: object, info: ValidationInfo) -> str:
    """A folder that need not be there yet, from the spec's folder, made absolute; a URL stays as it is."""
    found = text(value)
    return found if "://" in found else str(_absolute(found, info))


def _absolute(written: str, info: ValidationInfo) -> Path:
    """A path as written, from the spec's folder."""
    base: Path = (info.context or {}).get("base", Path.cwd())
    try:
        return Path(base, Path(written).expanduser()).resolve()
    except (OSError, RuntimeError) as error:  # links in a circle, or nobody's home
        raise SpecError(f"{show(written)} leads nowhere: {error}", allowed=("a path",)) from None


def _is_file(path: Path) -> bool:
    """Whether there is a regular file: not a folder, nor a device or a pipe, which may have no end."""
    try:
        return path.is_file()
    except OSError as error:
        raise SpecError(f"{str(path)!r} cannot be read: {error.strerror}", allowed=("a file",)) from None


def _no_file(path: Path, ending: str, suffix: str) -> SpecError:
    """The error for a file that is not there, with those of the same ending that are."""
    if path.exists():
        what = "a folder" if path.is_dir() else "a device, a pipe or a socket"
        return SpecError(f"{str(path)!r} is {what}; name a file", allowed=_files(path, ending, suffix))
    if not path.parent.is_dir():
        return SpecError(f"there is no folder {str(path.parent)!r}; paths start from the spec's folder")
    reason = f"there is no file {str(path)!r}; paths start from the spec's folder"
    return SpecError(reason, allowed=_files(path.parent, ending, suffix))


def _files(folder: Path, ending: str, suffix: str) -> list[str]:
    """The names of a folder's files with an ending, each with a suffix, the first of them at most."""
    try:
        found = sorted(file.name for file in folder.iterdir() if file.suffix == ending and file.is_file())
    except OSError:
        return []
    return [name + suffix for name in found[:_MOST_NAMED]]
