"""Workers' answers as bytes: a description in JSON, then the numbers of its arrays; no pickle, every bit kept.

Outcomes hold tensors, which go as safetensors. A chunk's arrays are small and come thousands of times: they go as they
lie in memory, one behind the other, and the description says their types and shapes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vi_dist.cluster.task import Array, Chunk, Evaluated, Outcome, StepKind

# Bytes before the description that say how long it is.
_LENGTH = 8
_ARRAYS = ("before", "after", "skipped", "alive")
_SCALARS = ("began_ms", "ended_ms")
_SECONDS = ("seconds", "preparing")
# Of arrays in a chunk: floats, whole numbers, booleans.
_TYPES = frozenset({"<f4", "<f8", "<i4", "<i8", "|b1"})


def _fields_of(*types: str) -> tuple[str, ...]:
    return tuple(field.name for field in fields(Outcome) if field.type in types)


# Floats go as an array, since JSON knows one NaN only.
_NUMBERS, _PLAIN = _fields_of("float"), _fields_of("int", "str", "Mapping[str, float]")
_TENSORS = _fields_of("Mapping[str, Tensor]")
assert len(_NUMBERS) + len(_PLAIN) + len(_TENSORS) == len(fields(Outcome)), "an outcome of unknown types"


def to_bytes(answer: Chunk | Evaluated) -> bytes:
    """An answer without its state, for `from_bytes`."""
    if isinstance(answer, Chunk):
        description, content = _of_chunk(answer)
    else:
        description, tensors = _of_evaluated(answer)
        content = save(tensors)
    text = json.dumps(description).encode()
    return len(text).to_bytes(_LENGTH, "little") + text + content


def from_bytes(content: bytes) -> Chunk | Evaluated:
    """What `to_bytes` wrote; of a chunk, with an empty state. Raises `ValueError` for bytes of another form."""
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    try:
        description = json.loads(content[_LENGTH:end])
        if description["kind"] == "chunk":
            return _chunk(description, content[end:])
        return _evaluated(description, load(content[end:]))
    except (KeyError, TypeError, IndexError, SafetensorError) as error:
        raise ValueError(f"not an answer of this version: {type(error).__name__}: {error}") from error


def _of_chunk(chunk: Chunk) -> tuple[dict[str, Any], bytes]:
    arrays = {name: getattr(chunk, name) for name in _ARRAYS}
    arrays |= {f"curves/{name}": values for name, values in chunk.curves.items()}
    arrays["seconds"] = np.array([getattr(chunk, name) for name in _SECONDS])
    description = {
        "kind": "chunk",
        "step": vars(chunk.kind),
        "curves": list(chunk.curves),
        "arrays": {name: [values.dtype.str, values.shape] for name, values in arrays.items()},
        **{name: getattr(chunk, name) for name in _SCALARS},
    }
    return description, b"".join(values.tobytes() for values in arrays.values())


def _chunk(description: Mapping[str, Any], content: bytes) -> Chunk:
    arrays = _arrays(description["arrays"], content)
    values: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
    values |= {name: int(description[name]) for name in _SCALARS}
    values |= dict(zip(_SECONDS, arrays["seconds"].tolist(), strict=True))
    curves = {name: arrays[f"curves/{name}"] for name in description["curves"]}
    return Chunk(state=b"", curves=curves, kind=StepKind(**description["step"]), **values)


def _arrays(described: Mapping[str, Sequence[Any]], content: bytes) -> dict[str, Array]:
    """Arrays by name, of their types and shapes. Raises `ValueError` where the content is of another size."""
    found, place = {}, 0
    for name, (kind, shape) in described.items():
        if kind not in _TYPES:
            raise ValueError(f"not an answer of this version: {name} is of type {kind}")
        count = math.prod(shape)
        # Copied, because what is made of bytes cannot be written to.
        found[name] = np.frombuffer(content, kind, count, place).reshape(shape).copy()
        place += found[name].nbytes
    if place != len(content):
        raise ValueError(f"not an answer of this version: {len(content)} bytes for {place}")
    return found


def _of_evaluated(answer: Evaluated) -> tuple[dict[str, Any], dict[str, Tensor]]:
    numbers = [[getattr(one, name) for name in _NUMBERS] for one in answer.outcomes]
    tensors = {
        "numbers": torch.tensor(numbers, dtype=torch.float64),
        "seconds": torch.tensor([answer.seconds, answer.preparing], dtype=torch.float64),
    }
    outcomes = []
    for row, one in enumerate(answer.outcomes):
        plain: dict[str, Any] = {name: _plain(getattr(one, name)) for name in _PLAIN}
        for kind in _TENSORS:
            values: Mapping[str, Tensor] = getattr(one, kind)
            tensors |= {f"{row}/{kind}/{name}": _tensor(value) for name, value in values.items()}
            plain[kind] = list(values)
        outcomes.append(plain)
    return {"kind": "evaluated", "outcomes": outcomes}, tensors


def _evaluated(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Evaluated:
    rows: Sequence[Mapping[str, Any]] = description["outcomes"]
    outcomes = []
    for row, plain in enumerate(rows):
        values: dict[str, Any] = dict(zip(_NUMBERS, tensors["numbers"][row].tolist(), strict=True))
        values |= {name: plain[name] for name in _PLAIN}
        for kind in _TENSORS:
            values[kind] = {name: tensors[f"{row}/{kind}/{name}"] for name in plain[kind]}
        outcomes.append(Outcome(**values))
    seconds, preparing = tensors["seconds"].tolist()
    return Evaluated(tuple(outcomes), seconds, preparing)


def _tensor(values: Array | Tensor) -> Tensor:
    """Values in memory of their own, as safetensors wants them."""
    tensor = torch.from_numpy(np.ascontiguousarray(values)) if isinstance(values, np.ndarray) else values
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value
