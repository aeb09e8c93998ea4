"""Groups of names as one value of an argument."""

from __future__ import annotations

from typing import Any

import pytest

from vi_dist.errors import SpecError
from vi_dist.sweep.dimension import Item, dump_named
from vi_dist.sweep.parsing import parse_named


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ([["mu", "tau"], ["theta"]], ["mu + tau | theta"]),
        ([["mu"]], ["mu"]),
        (["mu + tau", "theta"], ["mu + tau", "theta"]),
        ([[["mu", "tau"]], [["mu"], ["tau"]], ""], ["mu + tau", "mu | tau", ""]),
    ],
)
def test_groups_are_one_value_and_lists_of_them_several(raw: Any, read: list[str]) -> None:
    ((name, options),) = parse_named({"structured": {"blocks": raw}}, "guide").arguments
    assert name == "blocks"
    assert [option.value for option in options if isinstance(option, Item)] == read


def test_they_are_written_as_text_that_reads_back() -> None:
    named = parse_named({"structured": {"blocks": [["mu", "tau"], ["theta"]]}}, "guide")
    assert dump_named(named) == {"structured": {"blocks": "mu + tau | theta"}}
    assert parse_named(dump_named(named), "guide") == named


@pytest.mark.parametrize("raw", [[["mu", 2]], [["mu"], "tau"], [["mu"], []]])
def test_what_is_neither_is_refused(raw: Any) -> None:
    with pytest.raises(SpecError, match="is not one value"):
        parse_named({"structured": {"blocks": raw}}, "guide")
