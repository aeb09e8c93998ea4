"""Reading YAML strictly: a syntax error with its line, and no key twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vi_dist.errors import SpecError
from vi_dist.sweep.dimension import join
from vi_dist.sweep.values import show

_SUFFIXES = (".yaml", ".yml")


def read_yaml(path: Path) -> Any:
    """What a YAML file holds, as plain data.

    Raises:
        SpecError: no such file, not a file, not text, not YAML, the same key twice.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise SpecError(_not_there(path), path=path, allowed=_specs(path.parent)) from None
    except IsADirectoryError:
        raise SpecError(
            "a folder, not a file; give the spec inside it", path=path, allowed=_specs(path)
        ) from None
    except UnicodeDecodeError as error:
        raise SpecError(f"not a text file (byte {error.start} is not UTF-8)", path=path) from None
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", path=path) from None
    except SpecError as error:
        raise SpecError(error.message, path=path, key=error.key, allowed=error.allowed) from None


def parse_yaml(text: str) -> Any:
    """What YAML text holds, as plain data.

    Raises:
        SpecError: not YAML, with line and column; the same key twice in one mapping, with both lines.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_keys(node, "", ())
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise SpecError(_syntax(error, text)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SpecError(
            f"line {line}: a character that YAML does not allow (#x{error.character:x})"
        ) from None
    except ValueError as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError(f"a value that YAML cannot read: {error}; put it in quotes if it is text") from None


def _check_keys(node: yaml.Node, key: str, above: tuple[yaml.Node, ...]) -> None:
    """Refuse a mapping with one key twice, and a node that contains itself."""
    if any(node is other for other in above):
        raise SpecError(f"line {_line(node)}: an alias refers to what contains it", key=key or None)
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
