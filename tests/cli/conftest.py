"""A folder with a spec, a model and data, and the command line run in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from vi_dist.cli.main import app

MODEL = """
import torch
from torch.distributions import Bernoulli, HalfNormal, Normal
from vi_dist import Model, functional, param, random_variable

@random_variable
def mu():
    return Normal(torch.zeros(2), 3.0)

@random_variable
def tau():
    return HalfNormal(torch.tensor(2.0))

@random_variable
def obs():
    return Normal(mu()[0] + 0.5 * mu()[1], tau()).expand((6,))

@random_variable
def positive():
    return HalfNormal(tau() * torch.ones(6))

@random_variable
def coin():
    return Bernoulli(0.3)

@random_variable
def tossed():
    return Normal(coin(), torch.ones(6))

@param
def eta():
    return torch.zeros(())

@random_variable
def shifted():
    return Normal(mu()[0] + eta(), torch.ones(6))

def build(data):
    return Model([mu(), tau()], {obs(): data["y"]})

def raises(data):
    return Model([mu()], {obs(): data["z"]})

def returns(data):
    return [mu()]

def takes_nothing():
    return build({})

def not_a_variable(data):
    return Model([mu], {obs(): data["y"]})

def twice(data):
    other = random_variable(lambda: Normal(0.0, 1.0))
    another = random_variable(lambda: Normal(0.0, 1.0))
    return Model([other(), another()], {obs(): data["y"]})

def outside(data):
    return Model([tau()], {positive(): -data["y"]})

def shaped(data):
    return Model([mu()], {obs(): data["y"][:4]})

def discrete(data):
    return Model([coin()], {tossed(): data["y"]})

def with_param(data):
    return Model([mu()], {shifted(): data["y"]})

def exits(data):
    import sys
    sys.exit(0)

def exits_in_a_variable(data):
    nu = random_variable(lambda: exits(data))
    return Model([nu(), mu()], {obs(): data["y"]})

def exits_in_a_functional(data):
    total = functional(lambda: exits(data))
    return Model([total(), mu()], {obs(): data["y"]})

def of_two_lengths(data):
    @random_variable
    def both():
        return Normal(mu()[0] + data["y"] * data["x"], 1.0)
    return Model([mu()], {both(): data["y"]})
"""
SPEC = """
name: toy
model: model.py:build
data: toy.npz
space:
  guide: [mean_field, full_rank]
  seed: [0, 1]
steps: 40
num_samples: 4
executor: inline
compile: never
evaluation: {samples: 128}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The spec's folder, and the current one."""
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "sweep.yaml").write_text(SPEC)
    np.savez(tmp_path / "toy.npz", y=np.array([0.3, 1.7, 2.2, 0.9, 1.4, 2.8]))
    np.savez(tmp_path / "nan.npz", y=np.array([0.3, np.nan, 2.2, 0.9, 1.4, 2.8]))
    np.savez(tmp_path / "lengths.npz", y=np.ones(6), x=np.ones(5))
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "toy.npz").read_bytes()[:100])
    rows = "y,note,age\n0.3,a,\n1.7,b,3\n2.2,,\n0.9,c,\n1.4,d,\n2.8,e,\n"
    (tmp_path / "holes.csv").write_text(rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def output(folder: Path, with_store: Callable[[Path], Path]) -> Path:
    """Where sweeps go that say nothing of it, with a store in it."""
    return with_store(folder / "vi-dist-out")


@pytest.fixture
def vi_dist() -> Callable[..., Result]:
    """The command line in this process."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return run
