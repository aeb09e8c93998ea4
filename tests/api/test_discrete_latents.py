"""Models with discrete latents, which fits and sweeps sum out: a posterior known in closed form."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, MultivariateNormal, Normal

from vi_dist import Experiment, Model, random_variable
from vi_dist.api.fit import Fit
from vi_dist.errors import SpecError

Y = np.array([1.4, 0.6, 1.1, 1.9])
# y_i = theta + 2 k + noise, k in {0, 1}: the posterior of theta is a mixture of two Gaussians.
SHIFT, PRIOR = 1.5, 0.3


def build(data: dict[str, Tensor]) -> Model:
    """A shift that is there or not."""

    @random_variable
    def shifted() -> Distribution:
        return Bernoulli(PRIOR)

    @random_variable
    def theta() -> Distribution:
        return Normal(torch.tensor(0.0), 1.0)

    @random_variable
    def y() -> Distribution:
        return Normal(theta() + SHIFT * shifted(), 1.0).expand(data["y"].shape)

    return Model([theta(), shifted()], {y(): data["y"]})


def log_evidences() -> Tensor:
    """log p(k, y) for k = 0 and 1."""
    n = len(Y)
    covariance = torch.eye(n, dtype=torch.float64) + 1.0
    each = [
        MultivariateNormal(torch.full((n,), SHIFT * k, dtype=torch.float64), covariance).log_prob(
            torch.tensor(Y)
        )
        for k in (0, 1)
    ]
    return torch.stack(each) + torch.tensor([1 - PRIOR, PRIOR]).double().log()


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return Experiment(build, name="shifted", data={"y": Y})


@pytest.fixture(scope="module")
def fit(experiment: Experiment) -> Fit:
    return experiment.fit("full_rank", steps=600, learning_rate=0.05)


def test_the_evidence_is_that_of_both_values(fit: Fit) -> None:
    evidence = float(torch.logsumexp(log_evidences(), 0))
    assert abs(fit.iw_elbo - evidence) < 0.02
    assert evidence - 0.1 < fit.elbo < evidence + 3 * fit.elbo_se


def test_draws_have_the_discrete_latents_too(fit: Fit) -> None:
    expected = float(torch.softmax(log_evidences(), 0)[1])
    n = 8000
    draws = fit.sample(n, resample=True)
    share = float(draws["shifted"].double().mean())
    assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / n) + 0.01
    for k in (0, 1):
        middle = (Y.sum() - len(Y) * SHIFT * k) / (len(Y) + 1)
        theta = draws["theta"][draws["shifted"] == k]
        assert abs(float(theta.mean()) - middle) < 5 / math.sqrt((len(Y) + 1) * len(theta)) + 0.03


def test_predictions_are_made_with_the_drawn_values(fit: Fit) -> None:
    data = fit.to_inference_data(400)
    drawn = data.posterior["shifted"].values[0]
    middle = data.posterior["theta"].values[0] + SHIFT * drawn
    predicted = data.posterior_predictive["y"].values[0].mean(-1)
    assert abs((predicted - middle).mean()) < 5 * 0.5 / math.sqrt(400)


def test_a_world_has_no_guide_for_them(fit: Fit) -> None:
    with pytest.raises(SpecError, match="shifted: discrete latents were summed out and have no guide"):
        fit.world()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"holdout": 0.25, "objective": "elpd"}, "shifted: with discrete latents summed out"),
        ({"shards": 2}, "shifted: discrete latents are not summed out of shards"),
    ],
)
def test_what_does_not_go_with_them_is_refused(
    experiment: Experiment, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(SpecError, match=words):
        experiment.sweep({"guide": ["mean_field"]}, executor="inline", output_dir=tmp_path / "out", **changes)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


DRAW = """
import json, sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/shifted@champion")
draws = model.predict(None, params={"num_samples": 4000, "seed": 0})
print(json.dumps([sorted(set(map(float, draws["shifted"]))), float(draws["shifted"].mean())]))
"""


def test_a_sweep_compares_guides_and_its_champion_draws_them(experiment: Experiment, tmp_path: Path) -> None:
    result = experiment.sweep(
        {
            "guide": ["mean_field", {"mixture": {"components": 2}}],
            "learning_rate": [0.05],
        },
        steps=400,
        executor="inline",
        output_dir=tmp_path / "out",
        tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
    )
    best = result.best()
    assert best.guide_name == "mixture"
    assert abs(best.iw_elbo - float(torch.logsumexp(log_evidences(), 0))) < 0.02
    command = [sys.executable, "-W", "ignore", "-c", DRAW, f"sqlite:///{tmp_path}/mlflow.db"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr[-2000:]
    values, share = json.loads(ran.stdout)
    expected = float(torch.softmax(log_evidences(), 0)[1])
    assert values == [0.0, 1.0]
    assert abs(share - expected) < 0.05
