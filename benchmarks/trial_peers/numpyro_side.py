"""NumPyro's autoguides at their defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.trial_peers import numpyro_models

GUIDES = ("AutoNormal", "AutoMultivariateNormal", "AutoLowRankMultivariateNormal", "AutoLaplaceApproximation")
# Neither has a default in NumPyro: the rate of its own examples of SVI, and as many steps as PyMC takes by default.
RATE, STEPS, DRAWS = 0.01, 10_000, 4_000


def fits(name: str, data: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, Any]]:
    """The label of every way to fit a posterior, and a function that does it and returns draws by name."""
    for guide in GUIDES:
        yield f"NumPyro {guide}", lambda guide=guide: _fit(name, data, guide)


def _fit(name: str, data: Mapping[str, NDArray[Any]], guide_name: str) -> dict[str, NDArray[Any]]:
    import jax
    from numpyro.infer import SVI, Predictive, Trace_ELBO, autoguide
    from numpyro.optim import Adam

    model = getattr(numpyro_models, name)
    # Numbers as JAX has them by default, in single precision; indices stay as they are.
    own = {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in data.items()}
    guide = getattr(autoguide, guide_name)(model)
    found = SVI(model, guide, Adam(RATE), Trace_ELBO()).run(
        jax.random.PRNGKey(0), STEPS, own, progress_bar=False
    )
    draws = guide.sample_posterior(jax.random.PRNGKey(1), found.params, sample_shape=(DRAWS,))
    derived = Predictive(model, draws, exclude_deterministic=False)(jax.random.PRNGKey(2), own)
    return {k: np.asarray(v) for k, v in {**derived, **draws}.items()}
