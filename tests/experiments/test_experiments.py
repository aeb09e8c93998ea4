"""The experiments' data, models and specs: each log joint against one written independently with SciPy."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Distribution

from vi_dist import Model, RVIdentifier, World
from vi_dist.model.model import check_model
from vi_dist.sweep.spec import load_spec

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
Values = dict[str, np.ndarray]


def german_credit(data: Values, latent: Values) -> float:
    features = data["features"]
    logits = latent["beta"][0] + ((features - features.mean(0)) / features.std(0)) @ latent["beta"][1:]
    likelihood = stats.logistic.logcdf(np.where(data["bad"] == 1, logits, -logits))
    return stats.norm.logpdf(latent["beta"]).sum() + likelihood.sum()


def eight_schools_centered(data: Values, latent: Values) -> float:
    prior = stats.norm.logpdf(latent["mu"], 0, 5) + stats.halfcauchy.logpdf(latent["tau"], scale=5)
    effects = stats.norm.logpdf(latent["theta"], latent["mu"], latent["tau"]).sum()
    return prior + effects + stats.norm.logpdf(data["y"], latent["theta"], data["sigma"]).sum()


def eight_schools(data: Values, latent: Values) -> float:
    # The centred density in the coordinates theta_offset: dtheta / dtheta_offset = tau.
    return eight_schools_centered(data, latent) + len(data["y"]) * np.log(latent["tau"])


def radon_mn(data: Values, latent: Values) -> float:
    prior = stats.norm.logpdf([latent["mu_alpha"], latent["beta"]], 0, 10).sum()
    prior += stats.halfnorm.logpdf([latent["sigma_alpha"], latent["sigma_y"]]).sum()
    counties = stats.norm.logpdf(latent["alpha"], latent["mu_alpha"], latent["sigma_alpha"]).sum()
    mean = latent["alpha"][data["county"]] + latent["beta"] * data["floor"]
    likelihood = stats.norm.logpdf(data["log_radon"], mean, latent["sigma_y"]).sum()
    # The centred density in the coordinates alpha_part: dalpha / dalpha_part = sigma_alpha^(1 - w).
    homes = np.bincount(data["county"])
    coordinates = (5 / (homes + 5)).sum() * np.log(latent["sigma_alpha"])
    return prior + counties + likelihood + coordinates


@dataclass(frozen=True)
class Case:
    name: str
    build: str
    log_joint: Callable[[Values, Values], float]
    dimension: int

    def __str__(self) -> str:
        return f"{self.name}-{self.build}"

    @property
    def folder(self) -> Path:
        return EXPERIMENTS / self.name

    def data(self) -> Values:
        with np.load(self.folder / f"{self.name}.npz") as arrays:
            return dict(arrays)

    def model(self) -> Model:
        spec = importlib.util.spec_from_file_location(f"experiment_{self.name}", self.folder / "model.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model = getattr(module, self.build)({name: torch.from_numpy(a) for name, a in self.data().items()})
        assert isinstance(model, Model)
        return model


CASES = [
    Case("german_credit", "build", german_credit, 25),
    Case("eight_schools", "build", eight_schools, 10),
    Case("eight_schools", "build_centered", eight_schools_centered, 10),
    Case("radon_mn", "build", radon_mn, 89),
]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    assert isinstance(request.param, Case)
    return request.param


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _latents(model: Model) -> list[RVIdentifier]:
    return [query for query in model.queries if query.is_random_variable]


def _points(model: Model, count: int) -> dict[RVIdentifier, Tensor]:
    """Some values for every latent, positive where they have to be: ``[count, *shape]``."""
    world = check_model(model)
    return {node: torch.rand(count, *world[node].shape) + 0.5 for node in _latents(model)}


def _world(model: Model, values: dict[RVIdentifier, Tensor]) -> World:
    world = World({**model.observations, **values})
    for node in (*model.queries, *model.observations):
        world.call(node)
    return world


def test_the_log_joint_is_the_one_written_with_scipy(case: Case) -> None:
    model = case.model()
    for sample in range(3):
        values = {node: draws[sample] for node, draws in _points(model, 3).items()}
        world = _world(model, values)
        named = {str(query): np.asarray(world.call(query)) for query in model.queries}
        assert float(world.log_prob()) == pytest.approx(case.log_joint(case.data(), named), rel=1e-12)


def test_the_model_is_sound_and_complete(case: Case) -> None:
    model = case.model()
    world = check_model(model)
    assert set(world.latent_nodes) == set(_latents(model))
    assert sum(world[node].numel() for node in _latents(model)) == case.dimension


def test_the_model_can_be_batched(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    # Checking arguments looks at values, which a batch has no single one of.
    monkeypatch.setattr(Distribution, "_validate_args", False)
    model = case.model()
    points = _points(model, 4)

    def log_joint(values: dict[str, Tensor]) -> Tensor:
        return _world(model, {node: values[str(node)] for node in points}).log_prob()

    batched = torch.func.vmap(log_joint)({str(node): draws for node, draws in points.items()})
    looped = [log_joint({str(node): draws[i] for node, draws in points.items()}) for i in range(4)]
    torch.testing.assert_close(batched, torch.stack(looped), rtol=1e-12, atol=0)


def test_the_reference_speaks_of_the_queries(case: Case) -> None:
    model = case.model()
    world = _world(model, {node: draws[0] for node, draws in _points(model, 1).items()})
    elements = set()
    for query in model.queries:
        shape = torch.as_tensor(world.call(query)).shape
        indices = [",".join(map(str, index)) for index in product(*map(range, shape))]
        elements |= {f"{query}[{index}]" for index in indices} if shape else {str(query)}
    reference = json.loads((case.folder / "reference.json").read_text())
    assert len(reference) == case.dimension
    assert set(reference) <= elements
    assert all(entry.keys() == {"mean", "sd"} and entry["sd"] > 0 for entry in reference.values())


def test_the_spec_points_at_what_is_there(case: Case) -> None:
    spec = load_spec(case.folder / "sweep.yaml")
    assert spec.name == case.name
    assert spec.model == f"{case.folder / 'model.py'}:build"
    assert spec.data == str(case.folder / f"{case.name}.npz")


def test_german_credit_is_the_published_data() -> None:
    data = CASES[0].data()
    assert data["features"].shape == (1000, 24)
    assert data["bad"].sum() == 300
    assert data["features"][0, :4].tolist() == [1, 6, 4, 12]


def test_radon_is_the_published_data() -> None:
    data = CASES[3].data()
    assert np.bincount(data["county"]).shape == (85,)
    assert np.bincount(data["county"]).sum() == 919
    assert set(data["floor"]) == {0.0, 1.0}
