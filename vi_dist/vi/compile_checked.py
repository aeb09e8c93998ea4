"""Compiled programs are used where their numbers are those of the graph that they were made of, and nowhere else.

A program is compared with its graph on inputs at which no two coordinates are equal: all outputs, of every column, up
to rounding. What rounding may do is measured, by the same step on inputs and log weights a rounding error away. A
program of several steps is compared with itself besides: K steps in one call give the bits of K calls of one step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from vi_dist.vi.guides.family import fixed_normals

log = logging.getLogger(__name__)

T = TypeVar("T")

TOLERANCE = 1e-3
"""Largest difference between a program and its graph, relative to the column's largest number in that output."""
ROUNDING = 64.0
"""How many times the difference that rounding errors make is allowed beside that."""
SIGNIFICANT = 1e-2
"""Params are compared whose first moment is so large a part of the column's largest: in the others an optimizer that
divides a gradient by its own size makes a whole step of a rounding error."""
_MOVED = ("params", "averaged", "halfway")


class Miscompiled(Exception):
    """A compiled program and the graph that it was made of give different numbers."""


def compile_checked(
    make: Callable[[], T], check: Callable[[T], None], graph: T, anywhere: Callable[[bool], bool] = bool
) -> tuple[T, str]:
    """The program that `make` compiles, if `check` passes it; else its graph, and the reason why; empty for no fault.

    Args:
        make: compiles, and may raise anything.
        check: raises if the program is not to be used.
        graph: what runs then.
        anywhere: whether it failed in any of the processes that have to do the same, given whether it failed here.
    """
    program, fault = graph, ""
    try:
        program = make()
        check(program)
    except Exception as error:  # a compiler can fail in as many ways as there are machines
        log.warning("compilation failed, the flat graph runs eagerly: %s", error)
        fault = type(error).__name__
    if anywhere(bool(fault)):
        return graph, f"compilation failed ({fault or 'in another process'}): the flat graph runs eagerly"
    return program, ""


def apart(numbers: Tensor, by: float = 0.1) -> Tensor:
    """Numbers near these of which no two are equal, so that it shows if a program takes one for another."""
    return numbers + by * fixed_normals("apart", numbers.shape, numbers)


def nudged(numbers: Tensor) -> Tensor:
    """The numbers, each a rounding error away."""
    eps = torch.finfo(numbers.dtype).eps
    return numbers * (1 + eps * fixed_normals("rounding", numbers.shape, numbers))


def rounding_errors(expected: Mapping[str, Tensor], slopes: Tensor) -> dict[str, Tensor]:
    """Where a step's outputs, as `step_changes`, follow from gradients that are but rounding errors: masks by name.

    Args:
        expected: what the graph gives.
        slopes: of the log weights `(C, ...)`, of which the gradients are sums.
    """
    limit = ROUNDING * torch.finfo(slopes.dtype).eps * slopes.abs().nan_to_num(posinf=0.0).flatten(1).amax(1)
    columns = expected["gradient norm"].reshape(len(limit), -1).amin(1) <= limit
    buffers = expected["buffers"]
    small = columns[:, None]
    if buffers.shape[1]:
        first = buffers[:, 0].abs()
        small = small | (first < SIGNIFICANT * first.amax(1, keepdim=True))
    return {
        "gradient norm": columns[:, None],
        "buffers": columns[:, None],
        **dict.fromkeys(_MOVED, small),
    }


def check_agreement(
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    rounded: Mapping[str, Tensor],
    but: Mapping[str, Tensor] | None = None,
) -> None:
    """Raise `Miscompiled` unless a program's outputs are the graph's up to rounding, wherever these are finite.

    Args:
        found, expected: outputs by name, of the program and of its graph, each `(C, ...)`: columns first.
        rounded: the same on inputs a rounding error away.
        but: masks of numbers that are not compared, by name, as of `rounding_errors`.
    """
    for name, theirs in expected.items():
        ours, near = (table[name].double().reshape(theirs.shape[0], -1) for table in (found, rounded))
        wide = theirs.double().reshape(theirs.shape[0], -1)
        finite = wide.isfinite()
        if but is not None and name in but:
            finite = finite & ~but[name]
        size = wide.abs().where(finite, 0.0)
        moved = (near - wide).abs().where(finite & near.isfinite(), 0.0)
        allowed = torch.zeros_like(wide)
        if wide.shape[1]:
            allowed = (TOLERANCE * size + ROUNDING * moved).amax(1, keepdim=True).expand_as(wide)
        wrong = finite & ~((ours - wide).abs() <= allowed)
        if bool(wrong.any()):
            column, place = (int(index) for index in wrong.nonzero()[0])
            raise Miscompiled(
                f"a compiled program gives {name} {float(ours[column, place]):.6g} where the model gives "
                f"{float(wide[column, place]):.6g}, in column {column}: set compile to never, and report the model"
            )


def check_same_bits(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise `Miscompiled` unless a program of several steps gives in one call what it gives in a call for each step."""
    for name, theirs in expected.items():
        ours = found[name]
        if not bool(((ours == theirs) | (ours.isnan() & theirs.isnan())).all()):
            raise Miscompiled(
                f"a compiled program of several steps gives another {name} in one call than in a call for each step: "
                "set compile to never, and report the model"
            )
