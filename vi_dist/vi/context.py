"""The surroundings in which a model's Python runs: dtype, device, threads, no value checks; all put back afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.distributions import Distribution

from vi_dist.vi.precision import OnePrecision


@contextmanager
def model_context(
    dtype: torch.dtype, device: torch.device | str = "cpu", validate: bool = False
) -> Iterator[None]:
    """Run model code with `torch.zeros(3)` meaning this dtype and device, and constants of other dtypes cast to it.

    `validate` switches the value checks of `torch.distributions`, which branch on values and so cannot be traced.
    """
    before = torch.get_default_dtype()
    checked = Distribution._validate_args
    torch.set_default_dtype(dtype)
    Distribution.set_default_validate_args(validate)
    try:
        with torch.device(device), OnePrecision(dtype):
            yield
    finally:
        torch.set_default_dtype(before)
        Distribution.set_default_validate_args(checked)


def steady_products() -> None:
    """Have MKL give a row of a matrix product the same bits wherever it stands among the others.

    MKL looks at the environment at its first call in a process, so this comes before the first product; a user's own
    `MKL_CBWR` stays.
    """
    os.environ.setdefault("MKL_CBWR", "AUTO")


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Run torch on this many threads; None leaves them as they are."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
