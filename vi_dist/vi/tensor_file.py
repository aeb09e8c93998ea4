"""Named tensors in a checked file: safetensors whose metadata hold the checksum."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load, save
from torch import Tensor

from vi_dist.checked_files import CHECKSUM, EMPTY_MARK, read_checked, reading, replace_file, sealed


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, durable: bool = True) -> Path:
    """Write tensors for `read_tensors`; `durable` as for `replace_file`."""
    named = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    return replace_file(path, sealed(save(named, {CHECKSUM: EMPTY_MARK})), durable=durable)


def read_tensors(path: Path, cure: str = "") -> dict[str, Tensor]:
    """What `write_tensors` wrote, or what an older safetensors file holds.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFile: it is not what was written; `cure` says what to do.
    """
    content = read_checked(path, cure)
    with reading(path, "safetensors", cure):
        return load(content)
