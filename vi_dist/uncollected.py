"""Imports without garbage collection, for processes that are ours; stands beside the layers."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """What is made meanwhile stays to the end: no collection runs, and later ones, and the process's end, pass it by.

    A quarter of the time of importing torch goes into collections, and another second at the end.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
