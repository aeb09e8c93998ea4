"""Radon in Minnesota: 919 homes, 85 counties, 89 latents; the model of `experiments/radon_mn`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.distributions import Distribution, HalfNormal, Normal

from benchmarks.models.case import Array, Case, load
from vi_dist import Model, random_variable

FILE = Path(__file__).resolve().parents[2] / "experiments/radon_mn/radon_mn.npz"
HOMES_AS_GOOD_AS_THE_PRIOR = 5.0


def data() -> dict[str, Array]:
    """`county`, `floor`, `log_radon` `[919]`, and `w [85]`, the share of a county's level known from its homes."""
    arrays = load(str(FILE))
    homes = np.bincount(arrays["county"])
    return {
        "county": arrays["county"].astype(np.int64),
        "floor": arrays["floor"].astype(float),
        "log_radon": arrays["log_radon"].astype(float),
        "w": homes / (homes + HOMES_AS_GOOD_AS_THE_PRIOR),
    }


def build(data: dict[str, Tensor]) -> Model:
    """For vi_dist."""
    county, floor, observed, w = data["county"], data["floor"], data["log_radon"], data["w"]

    @random_variable
    def mu_alpha() -> Distribution:
        return Normal(observed.new_tensor(0.0), 10.0)

    @random_variable
    def sigma_alpha() -> Distribution:
        return HalfNormal(observed.new_tensor(1.0))

    @random_variable
    def beta() -> Distribution:
        return Normal(observed.new_tensor(0.0), 10.0)

    @random_variable
    def sigma_y() -> Distribution:
        return HalfNormal(observed.new_tensor(1.0))

    @random_variable
    def alpha_part() -> Distribution:
        return Normal(w * mu_alpha(), sigma_alpha() ** w)

    @random_variable
    def log_radon() -> Distribution:
        alpha = mu_alpha() + sigma_alpha() ** (1 - w) * (alpha_part() - w * mu_alpha())
        return Normal(alpha[county] + beta() * floor, sigma_y())

    return Model(
        queries=[mu_alpha(), sigma_alpha(), beta(), sigma_y(), alpha_part()],
        observations={log_radon(): observed},
    )


def numpyro_model(data: Mapping[str, Any]) -> None:
    """For NumPyro."""
    import numpyro
    import numpyro.distributions as dist

    w = data["w"]
    mu = numpyro.sample("mu_alpha", dist.Normal(0.0, 10.0))
    sigma_alpha = numpyro.sample("sigma_alpha", dist.HalfNormal(1.0))
    beta = numpyro.sample("beta", dist.Normal(0.0, 10.0))
    sigma_y = numpyro.sample("sigma_y", dist.HalfNormal(1.0))
    part = numpyro.sample("alpha_part", dist.Normal(w * mu, sigma_alpha**w).to_event(1))
    alpha = mu + sigma_alpha ** (1 - w) * (part - w * mu)
    mean = alpha[data["county"]] + beta * data["floor"]
    numpyro.sample("log_radon", dist.Normal(mean, sigma_y).to_event(1), obs=data["log_radon"])


def pyro_model(data: Mapping[str, Any]) -> None:
    """For Pyro; particles come as batch axes."""
    import pyro
    import pyro.distributions as dist

    w = data["w"]
    mu = pyro.sample("mu_alpha", dist.Normal(w.new_tensor(0.0), 10.0))[..., None]
    sigma_alpha = pyro.sample("sigma_alpha", dist.HalfNormal(w.new_tensor(1.0)))[..., None]
    beta = pyro.sample("beta", dist.Normal(w.new_tensor(0.0), 10.0))[..., None]
    sigma_y = pyro.sample("sigma_y", dist.HalfNormal(w.new_tensor(1.0)))[..., None]
    part = pyro.sample("alpha_part", dist.Normal(w * mu, sigma_alpha**w).to_event(1))
    alpha = mu + sigma_alpha ** (1 - w) * (part - w * mu)
    mean = alpha[..., data["county"]] + beta * data["floor"]
    pyro.sample("log_radon", dist.Normal(mean, sigma_y).to_event(1), obs=data["log_radon"])


CASE = Case(
    "radon_mn",
    data,
    build,
    numpyro_model,
    pyro_model,
    rows=919,
    learning_rate=0.02,
    check_steps=3000,
    sample_seconds=8e-6,
)
