"""Logistic regression on 100,000 synthetic rows and 20 coefficients: a seeded draw from the model itself."""

from __future__ import annotations

import numpy as np

from benchmarks.models.case import Array, Case
from benchmarks.models.german_credit import build, numpyro_model, pyro_model

ROWS, FEATURES = 100_000, 20
# Of the features: it leaves the posterior of 100,000 rows wide enough for the rates that suit the other models.
SPREAD = 0.1


def synthetic(rows: int, features: int, seed: int = 0) -> dict[str, Array]:
    """`design [rows, features]`, normal of deviation `SPREAD`, and `bad [rows]` under coefficients from the prior."""
    rng = np.random.default_rng(seed)
    design = SPREAD * rng.standard_normal((rows, features))
    bad = rng.random(rows) < 1 / (1 + np.exp(-design @ rng.standard_normal(features)))
    return {"design": design, "bad": bad.astype(float)}


def logistic(rows: int, features: int) -> Case:
    """The case of so many rows and coefficients; the model is that of German credit, with no intercept."""
    return Case(
        f"logistic_{rows}x{features}",
        lambda: synthetic(rows, features),
        build,
        numpyro_model,
        pyro_model,
        rows=rows,
        learning_rate=0.02,
        check_steps=600 if rows > 10_000 else 2000,
        sample_seconds=rows * (5e-9 + features * 2e-10),
    )


CASE = logistic(ROWS, FEATURES)
