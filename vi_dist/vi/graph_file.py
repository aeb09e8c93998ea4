"""A traced map as data: its nodes as JSON, its constants as safetensors, and a loop that computes it.

Nothing that is read back is run: a node names one of the operators of `graph_operators`, and its arguments are plain
data. So a file that somebody else wrote can give wrong numbers at worst.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from vi_dist.checked_files import read_json, reading, replace_file, sealed_json
from vi_dist.vi.graph import nan_where_failed
from vi_dist.vi.graph_operators import name_of, operator_of
from vi_dist.vi.tensor_file import read_tensors, write_tensors

_OWN: Mapping[str, Callable[..., Any]] = {"getitem": operator.getitem, "nan_where_failed": nan_where_failed}
_DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_KINDS: Mapping[str, Mapping[str, Any]] = {
    "dtype": {name: getattr(torch, name) for name in _DTYPES},
    "device": {"cpu": torch.device("cpu")},
    "layout": {"strided": torch.strided},
    "memory_format": {
        name: getattr(torch, name) for name in ("contiguous_format", "preserve_format", "channels_last")
    },
    "float": {"nan": math.nan, "inf": math.inf, "-inf": -math.inf},
}
"""Arguments that JSON has no form for: ``{"dtype": "float64"}`` and the like."""


class Unstorable(Exception):
    """A graph holds what cannot be stored as data; the message says what."""


class StoredMap:
    """A map from one vector to named tensors, computed operator by operator; `torch.vmap` batches it.

    Args:
        constants: by their names in the nodes.
        nodes: ``{"constant": name}`` or ``{"op": name, "args": [...], "kwargs": {...}}``; a node is known by its
            number from 1, and the vector is node 0.
        outputs: the node of each result, by its name.

    Raises `ValueError` or `KeyError` for nodes of any other form.
    """

    def __init__(
        self, constants: Mapping[str, Tensor], nodes: Sequence[Mapping[str, Any]], outputs: Mapping[str, int]
    ) -> None:
        self._outputs = {str(name): _number(place, len(nodes) + 1) for name, place in outputs.items()}
        self._steps: list[tuple[Callable[..., Any] | Tensor, list[Any], dict[str, Any]]] = []
        for place, node in enumerate(nodes, start=1):
            if "constant" in node:
                self._steps.append((constants[node["constant"]], [], {}))
                continue
            name = node["op"]
            function = _OWN[name] if name in _OWN else operator_of(name)
            arguments = [_decoded(value, place) for value in node["args"]]
            self._steps.append(
                (function, arguments, {key: _decoded(value, place) for key, value in node["kwargs"].items()})
            )
        self._unneeded = self._last_uses()

    def __call__(self, row: Tensor) -> dict[str, Tensor]:
        """The named tensors of one vector."""
        values: dict[int, Any] = {0: row}
        for place, (function, arguments, named) in enumerate(self._steps, start=1):
            if isinstance(function, Tensor):
                values[place] = function
            else:
                values[place] = function(*_filled(arguments, values), **_filled(named, values))
            for unneeded in self._unneeded.get(place, ()):
                del values[unneeded]
        return {name: values[place] for name, place in self._outputs.items()}

    def _last_uses(self) -> dict[int, list[int]]:
        """The nodes whose values nobody needs after a node, by that."""
        last: dict[int, int] = {}
        for place, (_, arguments, named) in enumerate(self._steps, start=1):
            last[place] = place
            for used in [*_references(arguments), *_references(named)]:
                last[used] = place
        uses: dict[int, list[int]] = {}
        for used, place in last.items():
            if used not in self._outputs.values():
                uses.setdefault(place, []).append(used)
        return uses


class _Reference(int):
    """The number of a node whose value is an argument."""


def write_map(graph: GraphModule, file: Path, constants: Path) -> None:
    """Write a traced map for `read_map`. Raises `Unstorable`, and writes nothing, if it cannot be stored as data."""
    tensors: dict[str, Tensor] = {}
    nodes: list[dict[str, Any]] = []
    places: dict[Node, int] = {}
    outputs: dict[str, int] = {}
    for node in graph.graph.nodes:
        if node.op == "placeholder" and not places:
            places[node] = 0
        elif node.op == "output":
            outputs = {name: places[value] for name, value in node.args[0].items()}
        elif node.op == "get_attr":
            tensors[str(len(tensors))] = getattr(graph, str(node.target))
            nodes.append({"constant": str(len(tensors) - 1)})
            places[node] = len(nodes)
        else:
            nodes.append(_encoded_call(node, places))
            places[node] = len(nodes)
    write_tensors(constants, tensors)
    replace_file(file, sealed_json({"nodes": nodes, "outputs": outputs}))


def read_map(file: Path, constants: Path, cure: str = "") -> StoredMap:
    """The map that `write_map` wrote.

    Raises:
        FileNotFoundError: one of the files is not there.
        DamagedFile: one of them is not what was written, or holds more than numbers and known operators.
    """
    tensors = read_tensors(constants, cure)
    data = read_json(file, cure)
    with reading(file, "a map of known operators", cure):
        return StoredMap(tensors, data["nodes"], data["outputs"])


def _encoded_call(node: Node, places: Mapping[Node, int]) -> dict[str, Any]:
    own = next((name for name, function in _OWN.items() if node.target is function), None)
    name = own or name_of(node.target)
    if node.op != "call_function" or name is None:
        raise Unstorable(f"{node.target} is not one of the operators that can be stored")
    return {
        "op": name,
        "args": [_encoded(value, places) for value in node.args],
        "kwargs": {key: _encoded(value, places) for key, value in node.kwargs.items()},
    }


def _encoded(value: Any, places: Mapping[Node, int]) -> Any:
    if isinstance(value, Node):
        return {"node": places[value]}
    if isinstance(value, list | tuple):
        return [_encoded(each, places) for each in value]
    if value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
        return value
    for kind, known in _KINDS.items():
        for name, each in known.items():
            if type(each) is type(value) and repr(each) == repr(value):
                return {kind: name}
    raise Unstorable(f"the argument {value!r} cannot be stored")


def _decoded(value: Any, before: int) -> Any:
    """An argument of the node of that number, which can refer to nodes before it."""
    if isinstance(value, list):
        return [_decoded(each, before) for each in value]
    if isinstance(value, dict):
        ((kind, name),) = value.items()
        return _Reference(_number(name, before)) if kind == "node" else _KINDS[kind][name]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{value!r} is no argument")


def _number(value: Any, before: int) -> int:
    if type(value) is int and 0 <= value < before:
        return value
    raise ValueError(f"{value!r} is not the number of a node before {before}")


def _filled(value: Any, values: Mapping[int, Any]) -> Any:
    """Arguments with values in place of references."""
    if isinstance(value, _Reference):
        return values[value]
    if isinstance(value, list):
        return [_filled(each, values) for each in value]
    if isinstance(value, dict):
        return {name: _filled(each, values) for name, each in value.items()}
    return value


def _references(value: Any) -> list[int]:
    if isinstance(value, _Reference):
        return [int(value)]
    each = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [found for part in each for found in _references(part)]
