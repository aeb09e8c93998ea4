"""What would take for ever, or all memory, is refused by a size that is known before it is built."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vi_dist.errors import SpecError
from vi_dist.sweep.catalogue import Catalogue
from vi_dist.sweep.overrides import apply_overrides, parse_overrides
from vi_dist.sweep.search import TpeSearch
from vi_dist.sweep.space import resolve
from vi_dist.sweep.spec import load_spec, make_spec
from vi_dist.sweep.values import MOST_VALUES, plain

LEVELS = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))
MERGES = "\n".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], b{n}: 1}}" for n in range(1, 12))

START = "name: toy\nspace: {seed: [0]}\n"
# The text of a file, or what follows a good start, and a part of the message.
FILES: dict[str, tuple[str, str]] = {
    "aliases of aliases": (f"a0: &a0 [x]\n{LEVELS}\n", "aliases written out"),
    "merges of merges": (f"a0: &a0 {{x: 1}}\n{MERGES}\n", "aliases written out"),
    "nested lists": (f"space: {'[' * 500}{']' * 500}", "more than 32 levels"),
    "nested mappings": (f"space: {'{a: ' * 3000}1{'}' * 3000}", "more than 32 levels"),
    "nested by dashes": (f"space:\n {'- ' * 3000}1\n", "more than 32 levels"),
    "many keys": ("".join(f"key{n}: 1\n" for n in range(20_000)), "unknown key 'key0'"),
    "many bytes": (f"name: {'a' * (5 << 20)}", "bytes are too many"),
    "many letters": (f"name: {'a' * 300}", "has 300 letters"),
    "many letters of a path": (f"model: {'a' * 5000}:build", "has 5,006 letters"),
    "many letters of a word": (f"search: {'a' * 100_000}", "unknown search 'aaa"),
    "a control character": ('name: "a\\0b"', "the control character U+0000"),
    "half a character": ('output_dir: "a\\ud800"', "the control character U+D800"),
    "two lines": ('output_dir: "a\\nb"', "the control character U+000A"),
    "many digits": (f"steps: {'9' * 400}", "is too large"),
    "digits beyond Python's own limit": (f"steps: {'9' * 5000}", "a value that YAML cannot read"),
    "a hexadecimal number": (f"steps: 0x{'f' * 5000}", "as a decimal number"),
    "an octal number": ("steps: 0100", "YAML 1.1 does not read '0100' as a decimal number"),
    "a number in base 60": ("steps: 1:30", "as a decimal number"),
    "a fraction in base 60": ("time_limit: 1:30.5", "as a decimal number"),
    "a tag that does not read": ('steps: !!timestamp "x"', "a value that YAML cannot read"),
    "a truth value that is none": ('steps: !!bool "x"', "a value that YAML cannot read"),
    "an object of Python's": (
        "steps: !!python/object/apply:os.getcwd []",
        "could not determine a constructor",
    ),
    "a date": ("name: 2001-01-01", "is not text; put it in quotes"),
    "more steps than anybody takes": ("steps: 1000000000000", "is too large"),
    "more samples": ("num_samples: 1000000000", "is too large"),
    "more draws": ("evaluation: {samples: 1000000000000}", "is too large"),
    "more processors": ("cpus_per_actor: 1e9", "is too large"),
    "more configurations": ("configurations: 1000000", "is too large"),
    "an exponent beyond a float": ("time_limit: 1e999", "is not a finite number"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_floods_is_refused(name: str, tmp_path: Path) -> None:
    text, part = FILES[name]
    path = tmp_path / "sweep.yaml"
    path.write_bytes((text if text.startswith(("name", "space", "a0")) else f"{START}{text}\n").encode())
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert part in str(caught.value)
    assert caught.value.path == str(path)
    assert len(str(caught.value)) < 2000


def test_aliases_that_stand_for_little_are_read(german_credit: str, write: Callable[[str], Path]) -> None:
    text = german_credit.replace("seed: [0, 1, 2]", "seed: &seeds [0, 1, 2]") + "steps: &n 100\n"
    text = text.replace("steps: 2000\n", "").replace("num_samples: 8", "num_samples: *n")
    with pytest.raises(SpecError, match="alias"):  # it stands before its anchor
        load_spec(write(text))
    spec = load_spec(write(text.replace("num_samples: *n\n", "") + "num_samples: *n\n"))
    assert (spec.steps, spec.num_samples) == (100, 100)


SPACES: dict[str, dict[str, Any]] = {
    "a wide grid": {"space": {"seed": list(range(1000)), "learning_rate": [0.1 / n for n in range(1, 1001)]}},
    "a deep grid": {
        "space": {"guide": [{"nsf": {"bins": list(range(2, 900)), "hidden": list(range(1, 900))}}]}
    },
    "the first of a deep grid": {
        "space": {"guide": [{"nsf": {"bins": list(range(2, 900)), "hidden": list(range(1, 900))}}]},
        "configurations": 3,
    },
    "corners": {
        "space": {"guide": [{"nsf": {"bins": list(range(2, 900)), "hidden": list(range(1, 900))}}]},
        "search": "tpe",
        "configurations": 10,
    },
}


@pytest.mark.parametrize("name", SPACES)
def test_a_space_is_counted_before_it_is_listed(name: str, catalogue: Catalogue) -> None:
    spec = make_spec({"name": "a", **SPACES[name]})
    with pytest.raises(SpecError, match="100,000") as caught:
        TpeSearch(spec, catalogue) if spec.search == "tpe" else resolve(spec, catalogue)
    assert caught.value.key == "space"


def test_the_first_of_a_wide_grid_are_listed(catalogue: Catalogue) -> None:
    spec = make_spec({"name": "a", "configurations": 3, **SPACES["a wide grid"]})
    assert [found.seed for found in resolve(spec, catalogue)] == [0, 1, 2]


def _circle() -> list[object]:
    circle: list[object] = []
    circle.append(circle)
    return circle


def _bomb() -> list[object]:
    bomb: list[object] = [0] * 10
    for _ in range(10):
        bomb = [bomb] * 10
    return bomb


@pytest.mark.parametrize(
    "value",
    [range(10**15), range(0, -(10**15), -1), np.zeros(MOST_VALUES + 1), _circle(), _bomb()],
    ids=["range", "falling range", "array", "circle", "bomb"],
)
def test_values_from_python_are_counted_too(value: object) -> None:
    with pytest.raises(SpecError, match="a spec has"):
        plain({"seed": value})


NO_COUNTS = (10**400, 10**5000, -(10**400), float("nan"), True, 1j, object(), b"1", {1})


@pytest.mark.parametrize("value", NO_COUNTS, ids=map(str, range(len(NO_COUNTS))))
def test_a_number_from_python_that_is_none(value: object) -> None:
    with pytest.raises(SpecError) as caught:
        make_spec({"name": "a", "space": {"seed": [0]}, "steps": value})
    assert caught.value.key == "steps"
    assert len(str(caught.value)) < 300


def test_a_file_without_an_end_is_not_read(tmp_path: Path, german_credit: str, folder: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (Path("/dev/zero"), tmp_path / "pipe.yaml"):
        with pytest.raises(SpecError, match="neither a file nor a folder"):
            load_spec(path)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(SpecError, match="cannot be read"):
        load_spec(tmp_path / "circle")
    with pytest.raises(SpecError, match="cannot be read|no such file"):
        load_spec(tmp_path / "a\0b")
    for key, value, part in (
        ("data", "/dev/zero", "a device"),
        ("data", str(tmp_path), "a folder"),
        ("data", f"{tmp_path}/circle", "leads nowhere"),
        ("data", "~nobody_of_that_name/a.npz", "leads nowhere"),
        ("data", f"{tmp_path}/{'a' * 300}", "cannot be read"),
        ("data", f"{tmp_path}/x.**", "there is no file"),
        ("model", f"{tmp_path}:build", "a folder"),
        ("model", "/dev/zero:build", "a device"),
    ):
        with pytest.raises(SpecError, match=part) as caught:
            make_spec({"name": "a", "space": {"seed": [0]}, key: value})
        assert caught.value.key == key


def test_an_override_of_many_parts_is_refused() -> None:
    with pytest.raises(SpecError, match="more than 32 parts"):
        apply_overrides({}, parse_overrides([f"{'a.' * 100_000}b=1"]))
    with pytest.raises(SpecError, match="more than 32 levels"):
        parse_overrides([f"space={'[' * 2000}"])
