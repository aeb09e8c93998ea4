from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vi_dist.sweep.configuration import Choice, Configuration

CONFIGURATION = Configuration(
    guide=Choice("full_rank"),
    divergence=Choice("amari", (("alpha", 0.5),)),
    estimator=Choice("reparam"),
    optimizer=Choice("adam", (("beta1", 0.9), ("beta2", 0.999))),
    schedule=Choice("constant"),
    learning_rate=0.01,
    num_samples=8,
    steps=2000,
    seed=0,
    dtype="float32",
)
CHANGES: dict[str, Any] = {
    "guide": Choice("mean_field"),
    "divergence": Choice("amari", (("alpha", 0.25),)),
    "estimator": Choice("score"),
    "optimizer": Choice("adam", (("beta1", 0.8), ("beta2", 0.999))),
    "schedule": Choice("cosine", (("final", 0.0),)),
    "learning_rate": 0.02,
    "num_samples": 1,
    "steps": 1,
    "seed": 1,
    "dtype": "float64",
    "averaging": 0.5,
    "initialisation": Choice("mode"),
}

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
choices = st.builds(
    Choice,
    st.text(min_size=1),
    st.dictionaries(st.text(min_size=1), scalars, max_size=3).map(lambda found: tuple(found.items())),
)


def test_a_choice_in_words() -> None:
    choice = Choice("nsf", (("bins", 8), ("activation", "relu"), ("residual", True), ("dropout", None)))
    assert str(choice) == "nsf(bins=8, activation=relu, residual=true, dropout=none)"
    assert choice.short() == "nsf8,relu,none,residual"
    assert str(Choice("mean_field")) == Choice("mean_field").short() == "mean_field"


def test_a_name_alone() -> None:
    assert CONFIGURATION.name == "full_rank-amari0.5-lr0.01-s0"


@given(choices, choices, st.floats(1e-6, 1.0))
def test_a_configuration_travels_as_json(guide: Choice, divergence: Choice, rate: float) -> None:
    sent = replace(CONFIGURATION, guide=guide, divergence=divergence, learning_rate=rate, name="a name")
    received = Configuration.from_dict(json.loads(json.dumps(sent.to_dict())))
    assert received == sent
    assert received.name == "a name"
    assert received.key("data", "code") == sent.key("data", "code")


def test_the_key_is_pinned() -> None:
    assert CONFIGURATION.key("data", "code") == "24c835a9ad08"


@pytest.mark.parametrize("name", CHANGES)
def test_every_value_moves_the_key(name: str) -> None:
    assert replace(CONFIGURATION, **{name: CHANGES[name]}).key("data", "code") != CONFIGURATION.key(
        "data", "code"
    )


def test_data_and_code_move_the_key_and_the_name_does_not() -> None:
    key = CONFIGURATION.key("data", "code")
    assert CONFIGURATION.key("other", "code") != key
    assert CONFIGURATION.key("data", "other") != key
    assert replace(CONFIGURATION, name="other").key("data", "code") == key
    assert replace(CONFIGURATION, name="other") == CONFIGURATION
    assert set(CHANGES) == set(Configuration.__dataclass_fields__) - {"name"}
