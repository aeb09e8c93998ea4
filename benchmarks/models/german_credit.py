"""German credit: logistic regression, 1,000 rows, 25 coefficients; the model of `experiments/german_credit`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Normal

from benchmarks.models.case import Array, Case, load
from vi_dist import Model, random_variable

FILE = Path(__file__).resolve().parents[2] / "experiments/german_credit/german_credit.npz"


def data() -> dict[str, Array]:
    """`design [1000, 25]`, an intercept and standardised features, and `bad [1000]`."""
    arrays = load(str(FILE))
    features = arrays["features"]
    standardised = (features - features.mean(0)) / features.std(0)
    design = np.concatenate([np.ones((len(features), 1)), standardised], 1)
    return {"design": design, "bad": arrays["bad"].astype(float)}


def build(data: dict[str, Tensor]) -> Model:
    """For vi_dist."""
    design = data["design"]

    @random_variable
    def beta() -> Distribution:
        return Normal(design.new_zeros(design.shape[1]), 1.0)

    @random_variable
    def bad() -> Distribution:
        return Bernoulli(logits=design @ beta())

    return Model(queries=[beta()], observations={bad(): data["bad"]})


def numpyro_model(data: Mapping[str, Any]) -> None:
    """For NumPyro."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    design = data["design"]
    beta = numpyro.sample("beta", dist.Normal(jnp.zeros(design.shape[1]), 1.0).to_event(1))
    numpyro.sample("bad", dist.Bernoulli(logits=design @ beta).to_event(1), obs=data["bad"])


def pyro_model(data: Mapping[str, Any]) -> None:
    """For Pyro; particles come as batch axes."""
    import pyro
    import pyro.distributions as dist

    design = data["design"]
    beta = pyro.sample("beta", dist.Normal(design.new_zeros(design.shape[1]), 1.0).to_event(1))
    pyro.sample("bad", dist.Bernoulli(logits=beta @ design.T).to_event(1), obs=data["bad"])


CASE = Case(
    "german_credit",
    data,
    build,
    numpyro_model,
    pyro_model,
    rows=1000,
    learning_rate=0.02,
    check_steps=2000,
    sample_seconds=8e-6,
)
