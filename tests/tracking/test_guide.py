"""A fit on disk becomes an MLflow model that draws, in a process that has not the model's source."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient
from torch.distributions import Distribution, Exponential, Independent, Normal

import vi_dist
from vi_dist.model.decorators import functional, random_variable
from vi_dist.model.model import Model
from vi_dist.tracking.champion import Merits
from vi_dist.tracking.guide_artifact import requirements
from vi_dist.tracking.mirror import Mirror
from vi_dist.tracking.records import GuideLogged, RunStarted, SweepStarted
from vi_dist.tracking.state import State
from vi_dist.vi import saved_guide
from vi_dist.vi.density import Density
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.layout import make_layout
from vi_dist.vi.sampling import make_constrain

REPOSITORY = Path(vi_dist.__file__).parents[1]
COLUMNS = ["beta[0]", "beta[1]", "tau", "pair[0,0]", "pair[0,1]"]


@random_variable
def beta() -> Distribution:
    return Independent(Normal(torch.zeros(2), torch.ones(2)), 1)


@random_variable
def tau() -> Distribution:
    return Exponential(torch.tensor(1.0))


@functional
def pair() -> torch.Tensor:
    return torch.stack((beta()[0], tau()))[None]


@random_variable
def y() -> Distribution:
    return Normal(beta().sum(), tau())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guide as a fit saves it."""
    directory = tmp_path_factory.mktemp("guides") / "k"
    model = Model([beta(), tau(), pair()], {y(): torch.tensor(1.0)})
    layout = make_layout(model)
    leaves = GUIDES["mean_field"].make(layout.noise).initial(layout.loc)
    constrain = make_constrain(Density(model, layout), torch.cat((layout.loc, layout.eta)))
    saved_guide.save(directory, "mean_field", {}, leaves, layout.eta, layout, constrain)
    return directory


LOAD = """
import json, sys
import mlflow

mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/german credit@champion")
table = model.predict(None, params={"num_samples": 5, "seed": 3})
json.dump({"columns": list(table.columns), "rows": table.to_numpy().tolist()}, sys.stdout)
"""


def test_the_champion_draws_in_a_fresh_process(mirror: Mirror, saved: Path, tmp_path: Path) -> None:
    records = [
        SweepStarted("sweep-1", "demo", "demo"),
        RunStarted("k", "name"),
        RunStarted("other", "name 2"),
        GuideLogged("other", str(saved), "second"),
        GuideLogged("k", str(saved), "winner", COLUMNS, "german credit"),
        GuideLogged("k", str(saved / "nowhere"), "lost"),
    ]
    mirror.apply(records)
    again = Mirror(mirror.store, State())
    again.apply(records)
    assert again.state.refused == 1
    assert "nowhere" in again.state.faults[0]
    client, state = mirror.store.client, mirror.state
    models = client.search_logged_models([state.experiment_id])
    assert sorted((model.name, str(model.status)) for model in models) == [
        ("second", "READY"),
        ("winner", "READY"),
    ]
    winner = next(model for model in models if model.name == "winner")
    assert (winner.source_run_id, winner.tags["vi.configuration"]) == (state.run_ids["k"], "k")
    outputs = client.get_run(state.run_ids["k"]).outputs
    assert [output.model_id for output in outputs.model_outputs] == [winner.model_id]
    (version,) = client.search_model_versions("name = 'german credit'")
    assert (version.source, version.run_id) == (winner.artifact_location, state.run_ids["k"])

    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-c", LOAD, mirror.store.tracking_uri]
    answer = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    table = json.loads(answer.stdout)
    assert table["columns"] == COLUMNS
    expected = saved_guide.draws(saved, 5, 3)
    flat = np.concatenate([np.reshape(expected[name], (5, -1)) for name in ("beta", "tau", "pair")], 1)
    np.testing.assert_array_equal(table["rows"], flat)


def test_a_better_winner_takes_the_alias_over(mirror: Mirror, saved: Path) -> None:
    begin = [RunStarted("a", "name a"), RunStarted("b", "name b")]
    mirror.apply([SweepStarted("sweep-1", "demo", "demo"), *begin])
    for key, elbo in (("a", -2.0), ("b", -1.0)):
        merits = Merits(key, "model", "data", "trustworthy", 3, elbo, 0.01).to_tags()
        mirror.apply([GuideLogged(key, str(saved), f"guide-{key}", register="a/b:c", merits=merits)])
    client: MlflowClient = mirror.store.client
    assert client.get_model_version_by_alias("a_b_c", "champion").run_id == mirror.state.run_ids["b"]
    assert len(client.search_model_versions("name = 'a_b_c'")) == 2


Try = tuple[Merits, Literal["earned", "always"], str]
BEST = Merits("first", "model", "data", "trustworthy", 3, -10.0, 0.01)
TRIES: list[Try] = [
    (BEST, "earned", ""),
    (replace(BEST, verdict="not to be trusted", trust=0, elbo=-5.0), "earned", "its verdict is 'not to be"),
    (replace(BEST, elbo=-5.0, complete=False), "earned", "its sweep was interrupted"),
    (replace(BEST, elbo=-5.0, data="other"), "earned", "the champion is of other data"),
    (replace(BEST, elbo=-5.0, model="other"), "earned", "the champion is of another model"),
    (replace(BEST, elbo=-9.98), "earned", "its ELBO of -9.980 is not above the champion's -10.000"),
    (replace(BEST, elbo=math.nan), "earned", "its ELBO of nan is not above the champion's -10.000"),
    (replace(BEST, elbo=-9.9), "earned", ""),
    (replace(BEST, verdict="not judged", trust=0, elbo=-50.0, complete=False), "always", ""),
    (replace(BEST, elbo=-50.01), "earned", ""),
]


def test_the_alias_moves_only_to_what_is_known_to_be_no_worse_or_when_asked(
    mirror: Mirror, saved: Path
) -> None:
    client: MlflowClient = mirror.store.client
    mirror.apply([SweepStarted("sweep-1", "demo", "demo")])
    mirror.apply([RunStarted(str(number), f"name {number}") for number in range(len(TRIES))])
    held = 0
    for number, (merits, alias, why) in enumerate(TRIES):
        record = GuideLogged(
            str(number), str(saved), f"guide-{number}", register="toy", merits=merits.to_tags(), alias=alias
        )
        mirror.apply([record, record])
        version = client.get_model_version("toy", str(number + 1))
        assert version.description == merits.describe()
        assert merits.verdict in version.description and "ELBO" in version.description
        assert version.tags["vi.data"] == merits.data
        held = held if why else number
        assert client.get_model_version_by_alias("toy", "champion").run_id == mirror.state.run_ids[str(held)]
        told = mirror.state.champion
        assert f"without the alias, since {why}" in told if why else f"has version {number + 1} as" in told
    assert len(client.search_model_versions("name = 'toy'")) == len(TRIES)
    assert mirror.state.refused == 0


def test_a_champion_that_says_nothing_of_itself_keeps_the_alias(mirror: Mirror, saved: Path) -> None:
    client: MlflowClient = mirror.store.client
    mirror.apply([SweepStarted("sweep-1", "demo", "demo"), RunStarted("a", "a"), RunStarted("b", "b")])
    mirror.apply([GuideLogged("a", str(saved), "guide-a", register="toy")])
    mirror.apply([GuideLogged("b", str(saved), "guide-b", register="toy", merits=BEST.to_tags())])
    assert client.get_model_version_by_alias("toy", "champion").run_id == mirror.state.run_ids["a"]
    assert "does not say of which model and data it is" in mirror.state.champion


def test_an_interrupted_sweep_makes_no_first_champion(mirror: Mirror, saved: Path) -> None:
    client: MlflowClient = mirror.store.client
    mirror.apply([SweepStarted("sweep-1", "demo", "demo"), RunStarted("a", "a")])
    broken, whole = (
        GuideLogged("a", str(saved), "guide-a", register="toy", merits=merits.to_tags())
        for merits in (replace(BEST, complete=False), BEST)
    )
    mirror.apply([broken])
    assert "toy has no champion yet: version 1 is registered without" in mirror.state.champion
    mirror.apply([whole])
    assert int(client.get_model_version_by_alias("toy", "champion").version) == 1
    assert "interrupted" not in client.get_model_version("toy", "1").description
    assert len(client.search_model_versions("name = 'toy'")) == 1


REFUSED = """
import sys
import mlflow
import pandas as pd

mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/toy@champion")
for given in (pd.DataFrame({"x": [1.0, 2.0]}), pd.DataFrame({"x": []})):
    try:
        model.predict(given)
    except Exception as error:
        print(error)
for given in (None, pd.DataFrame()):
    print(len(model.predict(given, params={"num_samples": 3})), "rows")
"""


def test_a_champion_refuses_input_that_it_would_not_use(mirror: Mirror, saved: Path, tmp_path: Path) -> None:
    mirror.apply([SweepStarted("sweep-1", "demo", "demo"), RunStarted("a", "a")])
    mirror.apply([GuideLogged("a", str(saved), "guide-a", COLUMNS, "toy")])
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-W", "ignore", "-c", REFUSED, mirror.store.tracking_uri]
    answer = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    first, second, *drawn = answer.stdout.splitlines()
    assert "2 rows" in first and "stored posterior" in first and "Fit.load" in first and "None" in first
    assert "0 rows" in second and "x" in second
    assert drawn == ["3 rows", "3 rows"]


def test_requirements_are_pinned_to_what_is_here() -> None:
    names = {line.partition("==")[0] for line in requirements()}
    assert {"mlflow", "numpy", "pandas", "torch", "safetensors"} <= names
    assert all("+" not in line for line in requirements())
