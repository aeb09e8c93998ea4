"""Whether an exception says that memory could not be had."""

from __future__ import annotations

import torch

_WORDS = (
    "can't allocate memory",  # torch on a CPU
    "out of memory",  # CUDA itself, as when a graph is made
    "_ALLOC_FAILED",  # its libraries' workspaces
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory could not be had, on a GPU or a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)
