"""A Bayesian neural network on a small regression: 434 children's test scores from two numbers about their mothers.

One hidden layer of 20 tanh units, 82 latents; the data of `experiments/kidiq`, whose README has source and licence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, HalfNormal, Normal

from benchmarks.models.case import Array, Case, load
from vi_dist import Model, random_variable

FILE = Path(__file__).resolve().parents[2] / "experiments/kidiq/kidiq.npz"
UNITS = 20


def data() -> dict[str, Array]:
    """`features [434, 2]` and `score [434]`, standardised."""
    arrays = {name: array.astype(float) for name, array in load(str(FILE)).items()}
    scaled = {name: (array - array.mean()) / array.std() for name, array in arrays.items()}
    return {"features": np.stack([scaled["mom_iq"], scaled["mom_hs"]], 1), "score": scaled["score"]}


def start() -> dict[str, Array]:
    """Weights that tell the units apart: at the prior's median all are equal, and chance decides which one learns."""
    rng = np.random.default_rng(0)
    return {
        "inner": rng.normal(0.0, 0.5, (2, UNITS)),
        "bias": rng.normal(0.0, 0.5, UNITS),
        "outer": rng.normal(0.0, 0.5 / math.sqrt(UNITS), UNITS),
    }


def build(data: dict[str, Tensor]) -> Model:
    """For vi_dist."""
    features, observed = data["features"], data["score"]

    @random_variable
    def inner() -> Distribution:
        return Normal(features.new_zeros(2, UNITS), 1.0)

    @random_variable
    def bias() -> Distribution:
        return Normal(features.new_zeros(UNITS), 1.0)

    @random_variable
    def outer() -> Distribution:
        return Normal(features.new_zeros(UNITS), 1 / math.sqrt(UNITS))

    @random_variable
    def level() -> Distribution:
        return Normal(features.new_tensor(0.0), 1.0)

    @random_variable
    def sigma() -> Distribution:
        return HalfNormal(features.new_tensor(1.0))

    @random_variable
    def score() -> Distribution:
        hidden = torch.tanh(features @ inner() + bias())
        return Normal(hidden @ outer() + level(), sigma())

    return Model(
        queries=[inner(), bias(), outer(), level(), sigma()],
        observations={score(): observed},
    )


def numpyro_model(data: Mapping[str, Any]) -> None:
    """For NumPyro."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    inner = numpyro.sample("inner", dist.Normal(jnp.zeros((2, UNITS)), 1.0).to_event(2))
    bias = numpyro.sample("bias", dist.Normal(jnp.zeros(UNITS), 1.0).to_event(1))
    outer = numpyro.sample("outer", dist.Normal(jnp.zeros(UNITS), 1 / math.sqrt(UNITS)).to_event(1))
    level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    hidden = jnp.tanh(data["features"] @ inner + bias)
    numpyro.sample("score", dist.Normal(hidden @ outer + level, sigma).to_event(1), obs=data["score"])


def pyro_model(data: Mapping[str, Any]) -> None:
    """For Pyro; particles come as batch axes."""
    import pyro
    import pyro.distributions as dist

    features = data["features"]
    inner = pyro.sample("inner", dist.Normal(features.new_zeros(2, UNITS), 1.0).to_event(2))
    bias = pyro.sample("bias", dist.Normal(features.new_zeros(UNITS), 1.0).to_event(1))
    outer = pyro.sample("outer", dist.Normal(features.new_zeros(UNITS), 1 / math.sqrt(UNITS)).to_event(1))
    level = pyro.sample("level", dist.Normal(features.new_tensor(0.0), 1.0))[..., None]
    sigma = pyro.sample("sigma", dist.HalfNormal(features.new_tensor(1.0)))[..., None]
    hidden = torch.tanh(features @ inner + bias[..., None, :])
    mean = (hidden @ outer[..., None])[..., 0] + level
    pyro.sample("score", dist.Normal(mean, sigma).to_event(1), obs=data["score"])


CASE = Case(
    "neural_network",
    data,
    build,
    numpyro_model,
    pyro_model,
    rows=434,
    learning_rate=0.02,
    check_steps=3000,
    sample_seconds=40e-6,
    start=start,
)
