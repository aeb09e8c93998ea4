"""PyMC's ADVI and full-rank ADVI at their defaults."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

METHODS, DRAWS = ("advi", "fullrank_advi"), 4_000


def fits(name: str, data: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, Any]]:
    """The label of every way to fit a posterior, and a function that does it and returns draws by name."""
    for method in METHODS:
        yield f"PyMC {method}", lambda method=method: _fit(name, data, method)


def _fit(name: str, data: Mapping[str, NDArray[Any]], method: str) -> dict[str, NDArray[Any]]:
    import pymc as pm

    from benchmarks.trial_peers import pymc_models

    logging.getLogger("pymc").setLevel(logging.ERROR)
    with pm.Model():
        getattr(pymc_models, name)(dict(data))
        found = pm.fit(method=method, random_seed=0, progressbar=False)
        posterior = found.sample(DRAWS, random_seed=0).posterior
    return {str(k): np.asarray(v)[0] for k, v in posterior.items()}
