"""Seeding the random generators that a model may draw from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed(seed: int) -> None:
    """Seed torch, Python's ``random`` and, where it is installed, numpy's global generator."""
    torch.manual_seed(seed)
    random.seed(seed)
    try:
        import numpy
    except ImportError:
        return
    numpy.random.seed(seed % 2**32)


@contextmanager
def fixed_seed(seed: int = 0) -> Iterator[None]:
    """Draw from torch's generators as seeded here; what they give afterwards is not changed by it."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else range(0)
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
