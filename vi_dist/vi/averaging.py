"""The average of the last iterates: nearer to the optimum than the last one, which goes on wandering about it."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from vi_dist.errors import ModelError

_Number = TypeVar("_Number", float, Tensor)


def average_weight(count: _Number, part: _Number) -> _Number:
    """The weight of the newest of `count` iterates in an average of about the last `part` of them; 1 at part = 0.

    Polynomial-decay averaging (Shamir and Zhang, ICML 2013): iterate t counts about as t^(2 / part - 2), whose mean age
    is that of a window over the last `part`; at part = 1 all count alike. Unlike a window it is there after every step,
    wherever the fit ends or pauses. What averages do for variational fits: Dhaka et al. (arXiv 2009.00666).

    >>> [average_weight(count, 1.0) for count in (1, 2, 4)], average_weight(7, 0.0)
    ([1.0, 0.5, 0.25], 1.0)
    """
    return (2 - part) / (part * (count - 2) + 2)


def checked_part(averaging: float) -> float:
    """The part, if it is one. Raises `ModelError` otherwise."""
    if not 0 <= averaging <= 1:
        raise ModelError(
            f"averaging is {averaging}; it is a part of the iterates, from 0 (the last one alone) to 1 (all)",
            key="averaging",
        )
    return averaging
