"""Whether a compiled program gives the numbers of the graph that it was made of."""

from __future__ import annotations

import torch
from torch import Tensor

from vi_dist.vi.guides.family import fixed_normals


class Miscompiled(Exception):
    """It does not."""


def check_agreement(found: Tensor, expected: Tensor, tolerance: float = 1e-3) -> None:
    """Raise `Miscompiled` unless a program's numbers are the graph's up to rounding, wherever these are finite."""
    finite = expected.isfinite()
    ours, theirs = found[finite], expected[finite]
    if not torch.allclose(ours, theirs, tolerance, 10 * tolerance):
        worst = int((ours - theirs).abs().nan_to_num(torch.inf).argmax())
        raise Miscompiled(
            f"a compiled program gives {float(ours[worst]):.6g} where the model gives {float(theirs[worst]):.6g}: "
            "set compile to never, and report the model"
        )


def apart(numbers: Tensor, by: float = 0.1) -> Tensor:
    """Numbers near these of which no two are equal, so that it shows if a program takes one for another."""
    return numbers + by * fixed_normals("apart", numbers.shape, numbers)
