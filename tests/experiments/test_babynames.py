"""The experiment babynames on records made up here: its table, its density, and a fit by batches from Parquet."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from vi_dist import Experiment
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density
from vi_dist.vi.layout import make_layout

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "babynames"


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"babynames_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A folder of three years, as the originals are written: name, sex, births."""
    generator = np.random.default_rng(0)
    syllables = ["an", "be", "lo", "mi", "ra", "ste", "ne", "y", "o"]
    for year in (1990, 1991, 1992):
        lines = []
        for _ in range(100):
            name = "".join(generator.choice(syllables, generator.integers(2, 5))).capitalize()
            sex = "F" if name[-1] in "ae" or generator.random() < 0.2 else "M"
            lines.append(f"{name},{sex},{generator.integers(5, 5000)}")
        (tmp_path / f"yob{year}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_the_table_is_the_records_standardised(records: Path) -> None:
    prepare = _module("prepare")
    raw = prepare.read(records)
    table = prepare.prepared(raw)
    assert list(raw["year"].unique()) == [1990, 1991, 1992]
    first = (records / "yob1990.txt").read_text().split("\n")[0].split(",")
    assert "abcdefghijklmnopqrstuvwxyz"[table["letter"][0]] == first[0][-1].lower()
    assert table["female"][0] == (first[1] == "F")
    for name in ("z_year", "z_log_births", "z_length"):
        assert table[name].mean() == pytest.approx(0, abs=1e-12)
        assert table[name].std(ddof=0) == pytest.approx(1)
    assert np.corrcoef(table["z_log_births"], np.log(raw["births"]))[0, 1] == pytest.approx(1)
    with pytest.raises(SystemExit, match="holds no yob"):
        prepare.read(FOLDER)


def test_the_density_is_that_of_a_regression_with_all_letters(records: Path) -> None:
    """In the coordinates intercept, slope and level = intercept + last, whose map has determinant 1."""
    prepare, build = _module("prepare"), _module("model").build
    table = prepare.prepared(prepare.read(records))
    data = {name: torch.tensor(table[name].to_numpy()) for name in table}
    generator = np.random.default_rng(1)
    intercept, slope, last = generator.normal(), generator.normal(size=3), generator.normal(size=26)
    with model_context(torch.float64):
        model = build(data)
        density = Density(model, make_layout(model))
        where = {"intercept": [intercept], "slope": slope, "level": intercept + last}
        flat = torch.cat([torch.tensor(where[site.name]) for site in density.layout.latents])
        found = float(density(flat))
        assert density.constrain(flat)["last"].numpy() == pytest.approx(last)
    logits = (
        intercept + table[["z_year", "z_log_births", "z_length"]].to_numpy() @ slope + last[table["letter"]]
    )
    likelihood = stats.logistic.logcdf(np.where(table["female"] == 1, logits, -logits)).sum()
    prior = stats.norm.logpdf(np.concatenate([[intercept], slope, last]), 0, 2.5).sum()
    assert found == pytest.approx(prior + likelihood, rel=1e-12)


def test_the_reference_names_what_the_model_reports() -> None:
    reference = json.loads((FOLDER / "reference.json").read_text())
    names = ["intercept", *(f"slope[{i}]" for i in range(3)), *(f"last[{i}]" for i in range(26))]
    assert list(reference) == names


def test_the_sweep_of_the_file_runs_on_a_subset(
    records: Path, tmp_path: Path, with_store: Callable[[Path], Path]
) -> None:
    prepare = _module("prepare")
    path = tmp_path / "subset.parquet"
    prepare.prepared(prepare.read(records)).to_parquet(path, row_group_size=64)
    assert len(pd.read_parquet(path)) == 300
    changes = {
        "data": str(path),
        "batch_size": 32,
        "steps": 150,
        "executor": "inline",
        "compile": "never",
        "space.guide": ["mean_field"],
        "output_dir": str(with_store(tmp_path / "out")),
    }
    fit = Experiment.from_spec(FOLDER / "sweep.yaml", changes).sweep().best()
    assert fit.status == "finished"
    last = fit.sample(2000, seed=1)["last"].mean(0)
    letters = {letter: float(last[ord(letter) - ord("a")]) for letter in "aeny"}
    assert min(letters["a"], letters["e"]) > max(letters["n"], letters["y"]) + 1
