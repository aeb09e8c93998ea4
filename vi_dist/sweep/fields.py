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
_TEXT = Argument(str)
_FLAG = Argument(bool)


def text(value: object) -> str:
    """Text that is not empty."""
    found = str(parse_value(value, _TEXT)).strip()
    if not found:
        raise SpecError("the text is empty", allowed=("text",))
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
    if not path.is_file():
        raise _no_file(path, "*.py", f":{function}")
    return f"{path}:{function}"


def data_path(value: object, info: ValidationInfo) -> str:
    """A data file found from the spec's folder and made absolute; a URL stays as it is."""
    found = text(value)
    if "://" in found:
        return found
    path = _absolute(found, info)
    if not path.exists():
        raise _no_file(path, "*" + path.suffix, "")
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
    return Path(base, Path(written).expanduser()).resolve()


def _no_file(path: Path, pattern: str, suffix: str) -> SpecError:
    """The error for a file that is not there, with those that are."""
    folder = path.parent
    if not folder.is_dir():
        return SpecError(f"there is no folder {str(folder)!r}; paths start from the spec's folder")
    there = sorted(file.name + suffix for file in folder.glob(pattern) if file.is_file())
    reason = f"there is no file {str(path)!r}; paths start from the spec's folder"
    return SpecError(reason, allowed=there)
