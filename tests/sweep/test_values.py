from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vi_dist.errors import SpecError
from vi_dist.sweep.values import POSITIVE, expected, near, parse_value, plain, short_number
from vi_dist.vi.table import Argument


@pytest.mark.parametrize(
    ("value", "kind", "read"),
    [
        ("1e-3", float, 0.001),
        ("1E5", int, 100_000),
        ("-2.5e+1", float, -25.0),
        (".5e1", float, 5.0),
        (2e3, int, 2000),
        (7, float, 7.0),
        (np.float32(0.5), float, 0.5),
        (np.int64(3), int, 3),
        ("text", str, "text"),
        (True, bool, True),
    ],
)
def test_values_are_read_as_their_type(value: object, kind: type, read: object) -> None:
    found = parse_value(value, Argument(kind))
    assert found == read
    assert type(found) is kind


@pytest.mark.parametrize(
    "value", [True, None, "1", "0.5", "fast", "1e", [1], {"a": 1}, math.nan, math.inf, "1e999"]
)
@pytest.mark.parametrize("kind", [int, float])
def test_what_is_no_number(value: object, kind: type) -> None:
    with pytest.raises(SpecError) as caught:
        parse_value(value, Argument(kind), "here")
    assert caught.value.key == "here"
    assert caught.value.allowed == (expected(Argument(kind)),)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        (Argument(int, low=1), "a whole number, at least 1"),
        (Argument(float, low=POSITIVE), "a number, greater than 0"),
        (Argument(float, low=0.0, high=math.nextafter(1.0, 0.0)), "a number, at least 0 and less than 1"),
        (Argument(float, low=0.1, high=0.999), "a number, at least 0.1 and at most 0.999"),
        (Argument(str), "text"),
    ],
)
def test_bounds_in_words(argument: Argument, words: str) -> None:
    assert expected(argument) == words


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mean_feild", ("mean_field",)),
        ("Mean-Field", ("mean_field",)),
        ("meanfield", ("mean_field",)),
        ("kl", ("kl_reverse", "kl_forward")),
        ("advi", ("mean_field",)),
        ("zebra", ()),
        ("", ()),
        ("\N{SNOWMAN}", ()),
    ],
)
def test_near_misses(name: str, meant: tuple[str, ...]) -> None:
    assert near(name, ("mean_field", "full_rank", "kl_reverse", "kl_forward")) == meant


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.01, "0.01"),
        (10**-2.5, "0.00316"),
        (1e-5, "1e-5"),
        (2.0, "2"),
        (0.0, "0"),
        (123456, "123456"),
        (-1.0, "-1"),
    ],
)
def test_short_numbers(number: float, text: str) -> None:
    assert short_number(number) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_seventeen_digits_are_the_number(number: float) -> None:
    assert float(short_number(number, 17)) == number


def test_python_values_become_what_yaml_holds() -> None:
    values = {"a": (1, range(2)), "b": np.array([0.5, 1.0]), "c": Path("x/y"), True: None}
    assert plain(values) == {"a": [1, [0, 1]], "b": [0.5, 1.0], "c": "x/y", "true": None}
