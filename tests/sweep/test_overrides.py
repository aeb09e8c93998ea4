from __future__ import annotations

import pytest

from vi_dist.errors import SpecError
from vi_dist.sweep.overrides import apply_overrides, parse_overrides


def test_values_are_yaml() -> None:
    texts = [
        "steps=500",
        "space.seed=[0,1]",
        "space.learning_rate={low: 1e-3, high: 1}",
        "data=null",
        "a=b=c",
        "x=",
    ]
    assert parse_overrides(texts) == {
        "steps": 500,
        "space.seed": [0, 1],
        "space.learning_rate": {"low": "1e-3", "high": 1},
        "data": None,
        "a": "b=c",
        "x": None,
    }


@pytest.mark.parametrize(
    ("texts", "key", "part"),
    [
        (["steps"], "--set", "'steps' is not an override"),
        (["=5"], "--set", "'=5' is not an override"),
        (["steps=1", "steps=2"], "steps", "set twice; keep one"),
        (["space.seed=[0,"], "space.seed", "'[0,': line 1, column 4: not YAML"),
    ],
)
def test_what_is_no_override(texts: list[str], key: str, part: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_overrides(texts)
    assert caught.value.key == key
    assert part in caught.value.message


def test_replacing_making_and_deleting_leaves_the_original_alone() -> None:
    values = {"steps": 1, "space": {"seed": [0], "guide": ["a"]}, "evaluation": None}
    changed = apply_overrides(
        values, {"steps": 2, "space.seed": (0, 1), "space.guide": None, "evaluation.samples": 5, "new.key": 1}
    )
    assert changed == {"steps": 2, "space": {"seed": [0, 1]}, "evaluation": {"samples": 5}, "new": {"key": 1}}
    assert values == {"steps": 1, "space": {"seed": [0], "guide": ["a"]}, "evaluation": None}
