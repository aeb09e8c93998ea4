"""Odd values: of wrong types, extreme, nested, and as text."""

from __future__ import annotations

import datetime
import random
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Unshowable:
    """A value whose text cannot be had."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


PLAIN: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 10**6, 10**9, 10**12, 2**63, -(2**63) - 1, 10**400, 0.0, -0.0, 0.5, 1.0,
    1.5, -2.5, 1e-320, 1e-40, 1e39, 1e300, float("nan"), float("inf"), -float("inf"), "", " ", "a", "nan", "1e5", "-1",
    "0x10", "null", "auto", "full_rank", "mean_field()", "x" * 300, "x" * 100_000, "a/b", "../..", "~", "~nobody/x",
    "é🙂", "a\0b", "a\nb", "\u202e", "{}", "[1, 2]", "http://", "sqlite://", "s3://", "nope://x/y", "http://u:p@h:99999",
    "/dev/zero", "/proc/self/mem", "/", ".", "model.py", "model.py:build", "model.py:nobody", "spec.yaml:build", [], {},
    [None], [[]], [1, 2], [1, 1], ["a", "b"], [True], [0.1, "0.1"], list(range(300)), {"a": 1}, {"low": 0, "high": 1},
    {"low": 1, "high": 0}, {"low": 1e-3, "high": 0.1, "log": True}, {"low": 0, "high": 2**40},
    {"low_rank": {"rank": 2}},
    {"low_rank": {"rank": 10**9}}, {"nsf": {"hidden": 1024, "transforms": 64, "bins": 256}}, {"mixture": None},
    {"nsf": {"transforms": 32}},
    {"mixture": {"components": [2, 3]}}, {"a": {"b": {"c": {"d": 1}}}}, _nested(5), _nested(120), {"mean_field": {}},
    {"adam": {"eps": 1e300}}, {"adam": {"beta1": 1.0}}, {"amari": {"alpha": float("nan")}}, {"dual": {"of": "dual"}},
    {"": 1}, {"x" * 5000: 1},
)  # fmt: skip
"""Values that YAML can hold."""

_FROM_PYTHON: tuple[Any, ...] = (
    10**5000, 1j, b"bytes", (), (1, 2), {1, 2}, range(3), range(10**12), object(), Unshowable(), lambda: 1, int, print,
    Fraction(1, 3), Decimal("0.1"), np.float64(0.5), np.int64(3), np.array([1.0, np.nan]), np.zeros((2, 2)),
    np.zeros(10**6), np.datetime64("2020-01-01"), torch.tensor(2), torch.tensor([1.0, 2.0]), torch.float32,
    datetime.date(2001, 1, 1), Path("nowhere"), Path("/dev/zero"), {1: 2}, {None: 1}, {"y": [1.0, None]}, {"y": "a"},
    {"y": [[1.0], [1.0, 2.0]]}, {"y": np.zeros(0)}, Exception("x"), NotImplemented, ..., iter([1]), bytearray(3),
    memoryview(b"a"), slice(1), float,
)  # fmt: skip


def odd(random_numbers: random.Random, *, python: bool = False) -> Any:
    """One of the odd values; with `python` also what no file can hold."""
    return random_numbers.choice(PLAIN + _FROM_PYTHON if python else PLAIN)
