"""Odd arguments to what users call from Python."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.distributions import Normal

from tests.fuzz.outcome import Nonsense, Outcome, in_words, judged
from tests.fuzz.specs import folder
from tests.fuzz.values import odd
from vi_dist import Experiment, Fit, Model, random_variable
from vi_dist.api.planning import plan_sweep
from vi_dist.api.sweep_result import SweepResult
from vi_dist.sweep.spec import SweepSpec

Call = Callable[[random.Random], Callable[[], object]]


@random_variable
def mu() -> Any:
    return Normal(0.0, 1.0)


@random_variable
def y() -> Any:
    return Normal(mu(), torch.ones(3))


def build(data: Any) -> Model:
    return Model([mu()], {y(): torch.tensor([1.0, 2.0, 3.0])})


_FIT = ("guide", "divergence", "estimator", "learning_rate", "num_samples", "steps", "averaging", "optimizer", "seed",
        "schedule", "initialisation", "initial_values", "samples", "compile", "progress")  # fmt: skip
_OWN = ("name", "model", "data", "columns", "dtype")  # of the experiment
_SWEEP = tuple(name for name in SweepSpec.model_fields if name not in _OWN)
_FIGURES = ("plot_curves", "plot_hyperparameters", "plot_marginals", "report")


class Inputs:
    """The calls, on one experiment, one fit and one sweep's result that are as they should be."""

    def __init__(self, place: Path) -> None:
        self.place = folder(place)
        self.experiment = Experiment(build, name="toy")
        self.fit = self.experiment.fit(steps=3, num_samples=2, samples=16, compile="never")
        self.fit.save(place / "fit")
        self.result = self.experiment.sweep(
            {"seed": [0, 1]}, steps=3, num_samples=2, executor="inline", compile="never", output_dir=place / "out",
            evaluation={"samples": 64},
        )  # fmt: skip
        self.calls: dict[str, Call] = {
            "Experiment": self._experiment,
            "fit": self._fit,
            "sweep": self._sweep,
            "from_spec": self._from_spec,
            "resume": lambda n: partial(self.experiment.resume, odd(n, python=True), executor="inline"),
            "draws": self._draws,
            "save": lambda n: partial(self.fit.save, _inside(place, odd(n, python=True))),
            "Fit.load": self._load,
            "SweepResult.load": self._load_result,
            "get": lambda n: partial(self.result.get, odd(n, python=True)),
            "figures": self._figure,
        }

    def _experiment(self, n: random.Random) -> Callable[[], object]:
        given: dict[str, Any] = {"build": build, "name": "toy", "data": None, "dtype": "float32"}
        given[n.choice(list(given))] = odd(n, python=True)

        def make() -> None:
            made = Experiment(given.pop("build"), **given)
            _check_fit(made.fit(steps=2, num_samples=2, samples=16, compile="never"))

        return make

    def _fit(self, n: random.Random) -> Callable[[], object]:
        given: dict[str, Any] = {"steps": 2, "num_samples": 2, "samples": 16, "compile": "never"}
        name = n.choice(_FIT)
        given[name] = odd(n, python=True) if name == "seed" else _huge_or_small(odd(n, python=True))
        return lambda: _check_fit(self.experiment.fit(**given))

    def _sweep(self, n: random.Random) -> Callable[[], object]:
        """Up to the plan: what is accepted is run by `Inputs._fit` and the specs."""
        given: dict[str, Any] = {"space": {"seed": [0, 1]}, "steps": 3, "compile": "never"}
        given[n.choice(_SWEEP)] = odd(n, python=True)

        def plan() -> None:
            changes = {name: value for name, value in given.items() if value is not None}
            spec = self.experiment._sweep_spec(changes)
            planned = plan_sweep(self.experiment._build, None, spec)
            if not planned.configurations:
                raise Nonsense("no configuration")

        return plan

    def _from_spec(self, n: random.Random) -> Callable[[], object]:
        if n.random() < 0.5:
            return partial(Experiment.from_spec, odd(n, python=True))
        return partial(Experiment.from_spec, self.place / "spec.yaml", odd(n, python=True))

    def _draws(self, n: random.Random) -> Callable[[], object]:
        given: dict[str, Any] = {"n": 2, "seed": 0, "resample": False}
        name, method = n.choice(list(given)), n.choice(("sample", "predict", "to_inference_data"))
        given[name] = _huge_or_small(odd(n, python=True)) if name == "n" else odd(n, python=True)

        def draw() -> None:
            found = getattr(self.fit, method)(**given)
            if (
                type(given["n"]) is bool
                or type(given["seed"]) is bool
                or not isinstance(given["resample"], bool)
            ):
                raise Nonsense(f"{method}({given}) was accepted")
            if isinstance(found, dict) and any(len(draws) != int(given["n"]) for draws in found.values()):
                raise Nonsense(f"{method}({given}) gives another number of draws")

        return draw

    def _load(self, n: random.Random) -> Callable[[], object]:
        given: list[Any] = [self.place / "fit", build, None]
        given[n.randrange(3)] = odd(n, python=True)
        return lambda: Fit.load(*given).sample(1)

    def _load_result(self, n: random.Random) -> Callable[[], object]:
        given: list[Any] = [self.place / "out", build, None]
        given[n.randrange(3)] = odd(n, python=True)
        return lambda: SweepResult.load(*given).best()

    def _figure(self, n: random.Random) -> Callable[[], object]:
        return partial(getattr(self.result, n.choice(_FIGURES)), odd(n, python=True))


def _huge_or_small(value: Any) -> Any:
    """A number that could be meant, and takes long, is no fault: its square could not."""
    return value**2 if type(value) is int and 1000 < value < 2**64 else value


def _inside(place: Path, value: Any) -> Any:
    """Text that is a path leads somewhere in the folder of the fuzz."""
    return str(place / value.lstrip("/~.")) if isinstance(value, str) and value.strip("/~. ") else value


def _check_fit(fit: Fit) -> None:
    if fit.status not in ("finished", "stopped", "diverged"):
        raise Nonsense(f"{fit.name} {fit.status}: {fit.reason}")


def run_inputs(
    numbered: range, seed: int, place: Path, told: Callable[[int, str, Outcome], None]
) -> list[Outcome]:
    """Try the calls of these numbers; `told` is called with each and what became of it."""
    here = Path.cwd()
    inputs = Inputs(place)
    outcomes = []
    os.chdir(place)
    try:
        for index in numbered:
            numbers = random.Random(f"input {seed} {index}")
            name = numbers.choice(list(inputs.calls))
            outcomes.append(judged(inputs.calls[name](numbers), in_words))
            told(index, name, outcomes[-1])
    finally:
        os.chdir(here)
    return outcomes
