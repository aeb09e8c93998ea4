"""Specs that are damaged, and whether what is accepted of them is legal."""

from __future__ import annotations

import copy
import math
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from typer.testing import CliRunner

from tests.fuzz.outcome import Nonsense, Outcome, judged
from tests.fuzz.values import odd
from vi_dist.api.experiment import Experiment
from vi_dist.cli.main import app
from vi_dist.errors import SpecError
from vi_dist.sweep.dimension import DIMENSIONS
from vi_dist.sweep.spec import SweepSpec, load_spec

MODEL = """
import torch
from torch.distributions import HalfNormal, Normal
from vi_dist import Model, random_variable

@random_variable
def mu():
    return Normal(torch.zeros(2), 3.0)

@random_variable
def tau():
    return HalfNormal(torch.tensor(2.0))

@random_variable
def y():
    return Normal(mu()[0] + 0.5 * mu()[1], tau()).expand((6,))

def build(data):
    return Model([mu(), tau()], {y(): data["y"]})
"""
_COMMON: dict[str, Any] = {
    "name": "toy", "model": "model.py:build", "data": "toy.npz", "executor": "inline", "compile": "never", "steps": 40,
    "num_samples": 2, "evaluation": {"samples": 64},
}  # fmt: skip
_RATE = {"low": 0.001, "high": 0.1, "log": True}
BASES: tuple[dict[str, Any], ...] = (
    {**_COMMON, "space": {"guide": ["mean_field", "full_rank"], "seed": [0, 1]}},
    {
        **_COMMON,
        "space": {"guide": [{"low_rank": {"rank": [1, 2]}}], "learning_rate": [0.01, 0.1]},
        "dtype": "float64",
    },
    {
        **_COMMON,
        "space": {"learning_rate": _RATE, "seed": [0, 1, 2]},
        "search": "random",
        "configurations": 4,
    },
    {
        **_COMMON,
        "space": {"learning_rate": _RATE, "averaging": [0.0, 0.1]},
        "search": "qmc",
        "configurations": 4,
    },
    {
        **_COMMON,
        "space": {"divergence": ["kl_reverse", {"amari": {"alpha": 0.5}}], "learning_rate": _RATE},
        "search": "tpe",
        "configurations": 6,
        "generation": 3,
    },
    {
        **_COMMON,
        "space": {"seed": [0, 1, 2]},
        "halving": {"eta": 2, "min_steps": 10},
        "budget": {"minutes": 1},
    },
    {
        **_COMMON,
        "space": {"optimizer": [{"adam": {"beta1": 0.8}}, "sgd"]},
        "objective": "elpd",
        "holdout": 0.34,
    },
    {
        **_COMMON,
        "space": {"schedule": [{"cosine": {"final": 0.1}}]},
        "tracking_uri": "sqlite:///a.db",
        "time_limit": 9,
    },
)
_KEYS = (
    *SweepSpec.model_fields,
    *DIMENSIONS,
    "low",
    "high",
    "log",
    "eta",
    "samples",
    "minutes",
    "rank",
    "lr",
    "x",
    "",
)
_MARKS = ("\t", "\0", "&a ", "*a", "<<: ", "!!set ", "!!python/name:os.system ", "---\n", "...", "#", ": ", "- ", "[",
          "}", "'", '"', "|", ">", "%", "@", "\ufeff", "\u2028", "\r", "1:30", "0777", "2001-01-01", "? ")  # fmt: skip


def folder(path: Path) -> Path:
    """A model, its data and nothing else."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.py").write_text(MODEL)
    np.savez(path / "toy.npz", y=np.array([0.3, 1.7, 2.2, 0.9, 1.4, 2.8]))
    return path


def damaged(numbers: random.Random) -> bytes:
    """The bytes of a spec with one to three faults, or, now and then, none."""
    values = copy.deepcopy(numbers.choice(BASES))
    for _ in range(numbers.choice((0, 1, 1, 1, 2, 3))):
        _change(values, numbers)
    text = yaml.dump(values, sort_keys=numbers.random() < 0.5, allow_unicode=True)
    if numbers.random() < 0.3:
        text = _scratched(text, numbers)
    encoding = numbers.choice(("utf-8",) * 12 + ("utf-16", "latin-1", "utf-8-sig"))
    content = text.encode(encoding, "replace")
    return (
        content if numbers.random() < 0.97 else content[: len(content) // 2] + bytes([0xFF, 0xFE]) + content
    )


def _change(values: dict[str, Any], numbers: random.Random) -> None:
    """Change one place of a spec: another value, another key, one more, one less, or wrapped up."""
    place: Any = values
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = numbers.choice(keys)
        if not isinstance(place[key], dict | list) or numbers.random() < 0.4:
            break
        place = place[key]
    way = numbers.randrange(6)
    if way <= 2:
        place[key] = odd(numbers)
    elif way == 3:
        place[key] = numbers.choice(([place[key]], {"x": place[key]}, [place[key]] * 2, str(place[key])))
    elif way == 4 and isinstance(place, dict):
        del place[key]
    elif isinstance(place, dict):
        place[numbers.choice(_KEYS)] = odd(numbers)
    else:
        place.append(odd(numbers))


def _scratched(text: str, numbers: random.Random) -> str:
    """Text with marks of YAML in it, letters lost, or lines doubled."""
    lines = text.splitlines(keepends=True)
    for _ in range(numbers.randint(1, 3)):
        line = numbers.randrange(len(lines))
        at = numbers.randrange(len(lines[line]))
        way = numbers.randrange(4)
        if way == 0:
            lines[line] = lines[line][:at] + numbers.choice(_MARKS) + lines[line][at:]
        elif way == 1:
            lines[line] = lines[line][:at] + lines[line][at + 1 :]
        else:
            lines.insert(line, lines[line] if way == 2 else " " * numbers.randrange(5) + lines[line])
    return "".join(lines)


def try_spec(content: bytes, path: Path) -> Outcome:
    """What the command line makes of a spec in a dry run and, where it is accepted, one tiny fit of it."""
    path.write_bytes(content)
    found = judged(lambda: _dry_run(path), _named)
    if found.kind == "traceback" and "exit code 1" in found.detail:
        return Outcome("exit 1", found.detail, found.seconds)
    return found if found.kind != "accepted" else judged(lambda: _check_legal(path), _nothing)


def _dry_run(path: Path) -> None:
    done = CliRunner().invoke(app, ["sweep", str(path), "--dry-run"])
    if done.exit_code == 0:
        return
    said = done.stderr.strip().splitlines()
    if done.exit_code == 2 and said and "Traceback" not in done.stderr and len(done.stderr) < 4000:
        raise SpecError(said[-1])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    raise RuntimeError(f"exit code {done.exit_code}: {done.stderr[-2000:]}")


def _named(error: BaseException) -> bool:
    return isinstance(error, SpecError)


def _nothing(error: BaseException) -> bool:
    return False


def _check_legal(path: Path) -> None:
    """Raise `Nonsense` where an accepted spec is not what it says, holds what is not legal, or cannot be fitted."""
    spec = load_spec(path)
    again = path.with_name("again.yaml")
    again.write_text(spec.to_yaml())
    if load_spec(again) != spec:
        raise Nonsense(f"the resolved spec reads differently: {spec.to_yaml()}")
    _check_numbers(spec.to_dict(), "")
    experiment = Experiment.from_spec(path)
    from vi_dist.api.planning import plan_sweep

    planned = plan_sweep(experiment._build, spec.data, spec)
    if not planned.configurations or len(set(planned.keys)) != len(planned.keys):
        raise Nonsense(f"{len(planned.keys)} configurations, {len(set(planned.keys))} of them different")
    first = planned.configurations[0]
    choices = ("guide", "divergence", "estimator", "optimizer", "schedule", "initialisation")
    values = {name: getattr(first, name).to_data() for name in choices}
    values |= {name: getattr(first, name) for name in ("learning_rate", "num_samples", "averaging", "seed")}
    values["num_samples"] = min(first.num_samples, 64)
    fit = experiment.fit(**values, steps=min(first.steps, 3), samples=16, compile="never")
    if fit.status not in ("finished", "stopped", "diverged"):
        raise Nonsense(f"{fit.name} {fit.status}: {fit.reason}")


_COUNTS = (
    "configurations",
    "generation",
    "steps",
    "num_samples",
    "samples",
    "eta",
    "min_steps",
    "max_actors",
)
_POSITIVE = ("learning_rate", "minutes", "time_limit", "cpus_per_actor")


def _check_numbers(value: Any, key: str) -> None:
    """The legality of numbers, written down a second time."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_numbers(inner, key if name in ("low", "high") else name)
    elif isinstance(value, list):
        for inner in value:
            _check_numbers(inner, key)
    elif isinstance(value, float) and not math.isfinite(value):
        raise Nonsense(f"{key} is {value}")
    elif key in _COUNTS and not (type(value) is int and 1 <= value <= 10**7):
        raise Nonsense(f"{key} is {value!r}")
    elif key == "seed" and not (type(value) is int and 0 <= value < 2**32):
        raise Nonsense(f"seed is {value!r}")
    elif key in _POSITIVE and not (type(value) in (int, float) and value > 0):
        raise Nonsense(f"{key} is {value!r}")
    elif isinstance(value, str) and not value.isprintable() and key not in ("blocks",):
        raise Nonsense(f"{key} holds a control character: {value!r}")


def run_specs(
    numbered: range, seed: int, place: Path, told: Callable[[int, bytes, Outcome], None]
) -> list[Outcome]:
    """Try the specs of these numbers; `told` is called with each and what became of it."""
    here = Path.cwd()
    outcomes = []
    os.chdir(folder(place))
    try:
        for index in numbered:
            content = damaged(random.Random(f"spec {seed} {index}"))
            outcomes.append(try_spec(content, place / "spec.yaml"))
            told(index, content, outcomes[-1])
    finally:
        os.chdir(here)
    return outcomes
