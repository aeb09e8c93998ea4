"""A small catalogue with every kind of entry: no, one and several arguments, required, bounded, text."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from vi_dist.errors import SpecError
from vi_dist.sweep.catalogue import Catalogue
from vi_dist.sweep.configuration import Choice, Configuration
from vi_dist.vi.table import Argument, Entry

GERMAN_CREDIT = """\
name: german_credit
model: model.py:build
data: german_credit.npz
space:
  guide: [mean_field, full_rank, {low_rank: {rank: [2, 4]}}]
  divergence: [kl_reverse, kl_forward, {amari: {alpha: 0.5}}]
  estimator: [auto]
  learning_rate: {low: 0.001, high: 0.1, log: true}
  seed: [0, 1, 2]
search: random
configurations: 32
steps: 2000
num_samples: 8
optimizer: adam
seed: 0
executor: ray
pack_size: auto
compile: auto
dtype: float32
evaluation: {samples: 4096}
"""


def _table(**entries: dict[str, Argument]) -> dict[str, Entry]:
    return {name: Entry(name, f"the {name}", dict, arguments) for name, arguments in entries.items()}


def _resolve(guide: Choice, divergence: Choice, estimator: Choice, samples: int) -> Choice:
    if estimator.name != "auto":
        return estimator
    return Choice("score") if guide.name == "student_t" else Choice("reparam")


def _check(configuration: Configuration) -> None:
    if configuration.estimator.name == "stl" and configuration.divergence.name == "total_variation":
        raise SpecError(
            "stl has no gradient under a kinked divergence", key="divergence", allowed=("reparam",)
        )


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    part = Argument(float, 0.9, low=0.0, high=1.0)
    return Catalogue(
        guides=_table(
            mean_field={},
            full_rank={},
            low_rank={"rank": Argument(int, low=1, high=64, description="columns of the factor")},
            student_t={"df": Argument(float, 5.0, low=math.nextafter(2.0, 3.0))},
            nsf={
                "bins": Argument(int, 8, low=2),
                "hidden": Argument(int, 64, low=1),
                "activation": Argument(str, "relu"),
                "residual": Argument(bool, False),
            },
        ),
        divergences=_table(
            kl_reverse={}, kl_forward={}, amari={"alpha": Argument(float)}, total_variation={}
        ),
        estimators=_table(
            reparam={}, score={}, stl={}, vr_iwae={"order": Argument(float, low=0.0, high=0.999)}
        ),
        optimizers=_table(
            adam={"beta1": part, "beta2": part}, sgd={"momentum": Argument(float, 0.0, low=0.0)}
        ),
        schedules=_table(constant={}, cosine={"final": Argument(float, 0.0, low=0.0, high=1.0)}),
        initialisations=_table(prior_median={}, mode={}),
        resolve_estimator=_resolve,
        check=_check,
    )


@pytest.fixture(scope="session")
def german_credit() -> str:
    return GERMAN_CREDIT


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model and the data that the specs here name."""
    path = tmp_path_factory.mktemp("experiment")
    (path / "model.py").write_text("def build(data):\n    return data\n")
    (path / "german_credit.npz").write_bytes(b"")
    return path


@pytest.fixture
def write(folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Write a spec into a folder of its own, beside its model and data."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())

    def write_spec(text: str) -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_spec
