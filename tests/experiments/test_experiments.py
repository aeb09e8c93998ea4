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
from scipy import integrate, stats
from torch import Tensor
from torch.distributions import Distribution, biject_to

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


def ar5(data: Values, latent: Values) -> float:
    prior = stats.norm.logpdf([latent["alpha"], *latent["beta"]], 0, 10).sum()
    prior += stats.halfcauchy.logpdf(latent["sigma"], scale=2.5)
    y, terms = data["y"], []
    for t in range(5, len(y)):
        mean = latent["alpha"] + sum(latent["beta"][k] * y[t - 1 - k] for k in range(5))
        terms.append(stats.norm.logpdf(y[t], mean, latent["sigma"]))
    return prior + np.sum(terms)


def diamonds(data: Values, latent: Values) -> float:
    prior = stats.norm.logpdf(latent["b"]).sum() + stats.t.logpdf(latent["intercept"], 3, 8, 10)
    prior += stats.t.logpdf(latent["sigma"], 3, 0, 10) + np.log(2)
    mean = latent["intercept"] + (data["design"] - data["design"].mean(0)) @ latent["b"]
    return prior + stats.norm.logpdf(data["log_price"], mean, latent["sigma"]).sum()


def earnings(data: Values, latent: Values) -> float:
    prior = stats.norm.logpdf(latent["beta"], 0, 1000).sum() + stats.halfnorm.logpdf(latent["sigma"], 0, 1000)
    z, beta = stats.zscore(data["height"], ddof=1), latent["beta"]
    mean = beta[0] + beta[1] * z + (beta[2] + beta[3] * z) * data["male"]
    return prior + stats.norm.logpdf(np.log(data["earn"]), mean, latent["sigma"]).sum()


def gp_regr(data: Values, latent: Values) -> float:
    prior = stats.gamma.logpdf(latent["rho"], 25, scale=1 / 4)
    prior += stats.halfnorm.logpdf(latent["alpha"], 0, 2) + stats.halfnorm.logpdf(latent["sigma"])
    covariance = latent["sigma"] * np.eye(11)
    for i, j in product(range(11), repeat=2):
        apart = (data["x"][i] - data["x"][j]) / latent["rho"]
        covariance[i, j] += latent["alpha"] ** 2 * np.exp(-(apart**2) / 2)
    return prior + stats.multivariate_normal.logpdf(data["y"], np.zeros(11), covariance)


def hmm_example(data: Values, latent: Values) -> float:
    transition = np.array([latent["theta1"], latent["theta2"]])
    emission = stats.norm.pdf(data["y"][:, None], latent["mu"], 1)
    forward, total = emission[0], 0.0
    for row in emission[1:]:
        total += np.log(forward.sum())
        forward = (forward / forward.sum()) @ transition * row
    return stats.norm.logpdf(latent["mu"], [3, 10]).sum() + total + np.log(forward.sum())


def lynx_hare(data: Values, latent: Values) -> float:
    def slopes(time: float, z: np.ndarray) -> list[float]:
        a, b, c, d = latent["theta"]
        return [(a - b * z[1]) * z[0], (d * z[0] - c) * z[1]]

    solved = integrate.solve_ivp(slopes, (0, 20), latent["z_init"], t_eval=range(21), rtol=1e-10, atol=1e-10)
    centre, spread = np.array([1, 0.05, 1, 0.05]), np.array([0.5, 0.05, 0.5, 0.05])
    prior = stats.truncnorm.logpdf(latent["theta"], -centre / spread, np.inf, centre, spread).sum()
    prior += stats.lognorm.logpdf(latent["sigma"], 1, scale=np.exp(-1)).sum()
    prior += stats.lognorm.logpdf(latent["z_init"], 1, scale=10).sum()
    counts = np.vstack([data["first"], data["pelts"]])
    return prior + stats.lognorm.logpdf(counts, latent["sigma"], scale=solved.y.T).sum()


def kidiq(data: Values, latent: Values) -> float:
    prior = stats.norm.logpdf(latent["beta"], 0, 1000).sum()
    prior += stats.halfcauchy.logpdf(latent["sigma"], scale=2.5)
    mean = latent["beta"][0] + latent["beta"][1] * data["mom_hs"] + latent["beta"][2] * data["mom_iq"]
    return prior + stats.norm.logpdf(data["score"], mean, latent["sigma"]).sum()


def mesquite(data: Values, latent: Values) -> float:
    prior = stats.norm.logpdf(latent["beta"], 0, 1000).sum() + stats.halfnorm.logpdf(latent["sigma"], 0, 1000)
    long, short, beta = np.log(data["diam1"]), np.log(data["diam2"]), latent["beta"]
    mean = beta[0] + beta[1] * (long + short + np.log(data["canopy_height"])) + beta[2] * (long + short)
    mean += beta[3] * (long - short) + beta[4] * np.log(data["total_height"])
    mean += beta[5] * np.log(data["density"]) + beta[6] * data["group"]
    return prior + stats.norm.logpdf(np.log(data["weight"]), mean, latent["sigma"]).sum()


def radon_all(data: Values, latent: Values) -> float:
    prior = stats.norm.logpdf([latent["mu_alpha"], *latent["beta"]], 0, 10).sum()
    prior += stats.halfnorm.logpdf([latent["sigma_alpha"], latent["sigma_y"]]).sum()
    counties = stats.norm.logpdf(latent["alpha"], latent["mu_alpha"], latent["sigma_alpha"]).sum()
    mean = latent["alpha"][data["county"]] + latent["beta"][0] * data["log_uranium"]
    mean += latent["beta"][1] * data["floor"]
    likelihood = stats.norm.logpdf(data["log_radon"], mean, latent["sigma_y"]).sum()
    coordinates = (3 / (np.bincount(data["county"]) + 3)).sum() * np.log(latent["sigma_alpha"])
    return prior + counties + likelihood + coordinates  # in alpha_part, as radon_mn


def sblrc(data: Values, latent: Values) -> float:
    prior = stats.norm.logpdf(latent["beta"], 0, 10).sum() + stats.halfnorm.logpdf(latent["sigma"], 0, 10)
    return prior + stats.norm.logpdf(data["y"], data["x"] @ latent["beta"], latent["sigma"]).sum()


def wells(data: Values, latent: Values) -> float:
    distance, arsenic = (data["dist"] - data["dist"].mean()) / 100, data["arsenic"] - data["arsenic"].mean()
    b = latent["beta"]
    logits = latent["alpha"] + b[0] * distance + b[1] * arsenic + b[2] * distance * arsenic
    likelihood = stats.logistic.logcdf(np.where(data["switched"] == 1, logits, -logits))
    return stats.norm.logpdf([latent["alpha"], *b], 0, 100).sum() + likelihood.sum()


@dataclass(frozen=True)
class Case:
    name: str
    build: str
    log_joint: Callable[[Values, Values], float]
    dimension: int
    tolerance: float = 1e-12

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
    Case("ar5", "build", ar5, 7),
    Case("diamonds", "build", diamonds, 26),
    Case("earnings", "build", earnings, 5),
    Case("gp_regr", "build", gp_regr, 3),
    Case("hmm_example", "build", hmm_example, 6),
    Case("lynx_hare", "build", lynx_hare, 8, 1e-3),  # against another solver, of smaller steps
    Case("kidiq", "build", kidiq, 4),
    Case("mesquite", "build", mesquite, 8),
    Case("radon_all", "build", radon_all, 391),
    Case("sblrc", "build", sblrc, 6),
    Case("wells", "build", wells, 4),
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
    """Some values for every latent, each in its support: ``[count, *shape]``."""
    world, found = check_model(model), {}
    for node in _latents(model):
        transform = biject_to(world.get_variable(node).distribution.support)
        coordinates = transform.inv(world[node])
        found[node] = transform(torch.rand(count, *coordinates.shape) - 0.5)
    return found


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
        expected = case.log_joint(case.data(), named)
        assert float(world.log_prob()) == pytest.approx(expected, rel=case.tolerance)


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
    assert (len(np.bincount(data["county"])), len(data["county"])) == (85, 919)
    assert set(data["floor"]) == {0.0, 1.0}
