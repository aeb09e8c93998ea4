"""Eight schools, non-centred: 10 latents, 8 rows; the model of `experiments/eight_schools`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributions import Distribution, HalfCauchy, Normal

from benchmarks.models.case import Array, Case, load
from vi_dist import Model, random_variable

FILE = Path(__file__).resolve().parents[2] / "experiments/eight_schools/eight_schools.npz"


def data() -> dict[str, Array]:
    """`y [8]` and `sigma [8]`."""
    return {name: array.astype(float) for name, array in load(str(FILE)).items()}


def build(data: dict[str, Tensor]) -> Model:
    """For vi_dist."""
    y, sigma = data["y"], data["sigma"]

    @random_variable
    def mu() -> Distribution:
        return Normal(y.new_tensor(0.0), 5.0)

    @random_variable
    def tau() -> Distribution:
        return HalfCauchy(y.new_tensor(5.0))

    @random_variable
    def theta_offset() -> Distribution:
        return Normal(y.new_zeros(len(y)), 1.0)

    @random_variable
    def effect() -> Distribution:
        return Normal(mu() + tau() * theta_offset(), sigma)

    return Model(queries=[mu(), tau(), theta_offset()], observations={effect(): y})


def numpyro_model(data: Mapping[str, Any]) -> None:
    """For NumPyro."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    y, sigma = data["y"], data["sigma"]
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    offset = numpyro.sample("theta_offset", dist.Normal(jnp.zeros(len(y)), 1.0).to_event(1))
    numpyro.sample("effect", dist.Normal(mu + tau * offset, sigma).to_event(1), obs=y)


def pyro_model(data: Mapping[str, Any]) -> None:
    """For Pyro; particles come as batch axes."""
    import pyro
    import pyro.distributions as dist

    y, sigma = data["y"], data["sigma"]
    mu = pyro.sample("mu", dist.Normal(y.new_tensor(0.0), 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(y.new_tensor(5.0)))
    offset = pyro.sample("theta_offset", dist.Normal(y.new_zeros(len(y)), 1.0).to_event(1))
    theta = mu[..., None] + tau[..., None] * offset
    pyro.sample("effect", dist.Normal(theta, sigma).to_event(1), obs=y)


CASE = Case(
    "eight_schools",
    data,
    build,
    numpyro_model,
    pyro_model,
    rows=8,
    learning_rate=0.02,
    check_steps=2000,
    sample_seconds=1.5e-6,
)
