"""Reading YAML strictly: a syntax error with its line, no key twice, and no more values than a sweep can have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from vi_dist.errors import SpecError
from vi_dist.sweep.dimension import join
from vi_dist.sweep.values import MOST_LEVELS, MOST_VALUES, big, show

MOST_BYTES = 4 << 20
"""Bytes of a spec at most; one of 100,000 seeds has 0.7 million."""
_SUFFIXES = (".yaml", ".yml")
# What YAML 1.1 reads as a whole number, and is no decimal one: 0100 is 64 and 1:30 is 90.
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SHORT = 100_000
# What constructors of YAML's own types raise for text that they cannot read.
_UNREADABLE = (ValueError, LookupError, AttributeError, TypeError, OverflowError)


def read_yaml(path: Path) -> Any:
    """What a YAML file holds, as plain data.

    Raises:
        SpecError: no such file, no regular file, too large, not text, not YAML, the same key twice.
    """
    try:
        return parse_yaml(_text(path))
    except FileNotFoundError:
        raise SpecError(_not_there(path), path=path, allowed=_specs(path.parent)) from None
    except IsADirectoryError:
        raise SpecError(
            "a folder, not a file; give the spec inside it", path=path, allowed=_specs(path)
        ) from None
    except UnicodeDecodeError as error:
        raise SpecError(f"not a text file (byte {error.start} is not UTF-8)", path=path) from None
    except SpecError as error:
        raise SpecError(error.message, path=path, key=error.key, allowed=error.allowed) from None
    except (OSError, ValueError) as error:  # a ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(f"cannot be read: {reason}", path=path) from None


def _text(path: Path) -> str:
    """A file's text; of one without an end, such as a device or a pipe, nothing is read."""
    size = path.stat().st_size
    if path.is_dir():
        raise IsADirectoryError
    if not path.is_file():
        raise SpecError("neither a file nor a folder (a device, a pipe or a socket); give the spec's file")
    if size > MOST_BYTES:
        raise SpecError(f"{size:,} bytes are too many for a spec; at most {MOST_BYTES:,} are read")
    return path.read_text(encoding="utf-8-sig")


def parse_yaml(text: str) -> Any:
    """What YAML text holds, as plain data.

    Raises:
        SpecError: not YAML, with line and column; the same key twice in one mapping, with both lines; a whole number
            that is not decimal; too many values, aliases counted where they stand; too many levels.
    """
    try:
        try:
            node, loader = _compose(text, _FAST)
        except yaml.MarkedYAMLError:
            if len(text) > _SHORT:
                raise
            node, loader = _compose(text, yaml.SafeLoader)  # which says more of what is wrong
        if node is None:
            return None
        _check_size(node)
        _check_keys(node, "", ())
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise SpecError(_syntax(error, text)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SpecError(
            f"line {line}: a character that YAML does not allow (#x{error.character:x})"
        ) from None
    except SpecError:
        raise
    except _UNREADABLE as error:
        raise SpecError(f"a value that YAML cannot read: {error}; put it in quotes if it is text") from None


def _compose(text: str, loader: Any) -> tuple[yaml.Node | None, Any]:
    """The document's node, and the loader that reads it, when no level is too deep for Python's own stack."""
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_LEVELS:
            line = 1 + (event.start_mark.line if event.start_mark else 0)
            raise SpecError(f"line {line}: more than {MOST_LEVELS} levels inside one another; a spec has six")
    opened = loader(text)
    return opened.get_single_node(), opened


def _check_size(root: yaml.Node) -> None:
    """Refuse a document of too many values; what an alias stands for counts wherever the alias stands."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, above: frozenset[int]) -> int:
        if id(node) in above or isinstance(node, yaml.ScalarNode):  # what contains itself is refused below
            return 1
        if id(node) not in sizes:
            children = [
                part for item in node.value for part in (item if isinstance(item, tuple) else (item,))
            ]
            sizes[id(node)] = 1 + sum(size(child, above | {id(node)}) for child in children)
        return sizes[id(node)]

    if (found := size(root, frozenset())) > MOST_VALUES:
        raise SpecError(
            f"the file stands for {big(found)} values, aliases written out; a spec has at most {MOST_VALUES:,}"
        )


def _check_keys(node: yaml.Node, key: str, above: tuple[yaml.Node, ...]) -> None:
    """Refuse a mapping with one key twice, and a node that contains itself."""
    if any(node is other for other in above):
        raise SpecError(f"line {_line(node)}: an alias refers to what contains it", key=key or None)
    _check_decimal(node, key)
    inside = (*above, node)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _check_keys(item, f"{key}[{index}]", inside)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                raise SpecError(f"line {_line(name)}: a key must be text", key=key or None)
            place = join(key, name.value)
            if name.value in lines:
                where = f"lines {lines[name.value]} and {_line(name)}"
                raise SpecError(f"the key stands twice, on {where}; keep one", key=place)
            lines[name.value] = _line(name)
            _check_keys(value, place, inside)


def _check_decimal(node: yaml.Node, key: str) -> None:
    """Refuse a number that YAML 1.1 reads in base 8, 16, 2 or 60, which hardly anybody means."""
    if not isinstance(node, yaml.ScalarNode):
        return
    odd = node.tag == _INT and not _DECIMAL.fullmatch(node.value)
    if odd or (node.tag == _FLOAT and ":" in node.value):
        reason = f"YAML 1.1 does not read {show(node.value)} as a decimal number"
        raise SpecError(
            f"line {_line(node)}: {reason}; write it as one, or in quotes if it is text", key=key or None
        )


def _line(node: yaml.Node) -> int:
    """The line a node starts on, from 1."""
    return int(node.start_mark.line) + 1


def _syntax(error: yaml.MarkedYAMLError, text: str) -> str:
    """A syntax error with its line, the line's text, and the usual cure."""
    mark = error.problem_mark or error.context_mark
    problem = error.problem or error.context or "not YAML"
    if mark is None:
        return f"not YAML: {problem}"
    lines = text.splitlines()
    line = lines[mark.line].strip() if mark.line < len(lines) else ""
    cure = "; indent with spaces, not tabs" if "\\t" in problem else ""
    cure = cure or ("; put text with a colon in quotes" if "mapping values" in problem else "")
    at = f" at {show(line)}" if line else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: not YAML: {problem}{at}{cure}"


def _not_there(path: Path) -> str:
    """Why a file is not there: the file itself, or the folder it should stand in."""
    parent = path.parent
    return "no such file" if parent.is_dir() else f"no such file: there is no folder {str(parent)!r}"


def _specs(folder: Path) -> tuple[str, ...]:
    """The YAML files of a folder, which were probably meant."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(str(file) for file in folder.iterdir() if file.suffix in _SUFFIXES))
