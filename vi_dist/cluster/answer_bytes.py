"""Workers' answers as bytes: a description in JSON, then the arrays as safetensors; no pickle, every bit kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
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


def _fields_of(*types: str) -> tuple[str, ...]:
    return tuple(field.name for field in fields(Outcome) if field.type in types)


# Floats go as an array, since JSON knows one NaN only.
_NUMBERS, _PLAIN = _fields_of("float"), _fields_of("int", "str", "Mapping[str, float]")
_TENSORS = _fields_of("Mapping[str, Tensor]")
assert len(_NUMBERS) + len(_PLAIN) + len(_TENSORS) == len(fields(Outcome)), "an outcome of unknown types"


def to_bytes(answer: Chunk | Evaluated) -> bytes:
    """An answer without its state, for `from_bytes`."""
    description, tensors = _of_chunk(answer) if isinstance(answer, Chunk) else _of_evaluated(answer)
    text = json.dumps(description).encode()
    return len(text).to_bytes(_LENGTH, "little") + text + save(tensors)


def from_bytes(content: bytes) -> Chunk | Evaluated:
    """What `to_bytes` wrote; of a chunk, with an empty state. Raises `ValueError` for bytes of another form."""
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    try:
        description = json.loads(content[_LENGTH:end])
        tensors = load(content[end:])
        if description["kind"] == "chunk":
            return _chunk(description, tensors)
        return _evaluated(description, tensors)
    except (KeyError, TypeError, IndexError, SafetensorError) as error:
        raise ValueError(f"not an answer of this version: {type(error).__name__}: {error}") from error


def _of_chunk(chunk: Chunk) -> tuple[dict[str, Any], dict[str, Tensor]]:
    tensors = {name: _tensor(getattr(chunk, name)) for name in _ARRAYS}
    tensors |= {f"curves/{name}": _tensor(values) for name, values in chunk.curves.items()}
    tensors["seconds"] = torch.tensor([getattr(chunk, name) for name in _SECONDS], dtype=torch.float64)
    description = {name: getattr(chunk, name) for name in _SCALARS}
    return {"kind": "chunk", "step": asdict(chunk.kind), "curves": list(chunk.curves), **description}, tensors


def _chunk(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Chunk:
    values: dict[str, Any] = {name: tensors[name].numpy() for name in _ARRAYS}
    values |= {name: int(description[name]) for name in _SCALARS}
    values |= dict(zip(_SECONDS, tensors["seconds"].tolist(), strict=True))
    curves = {name: tensors[f"curves/{name}"].numpy() for name in description["curves"]}
    return Chunk(state=b"", curves=curves, kind=StepKind(**description["step"]), **values)


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
