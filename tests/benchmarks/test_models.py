"""The three forms of every benchmark model are one model: the same log joint at the same values."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from benchmarks.models.case import Case
from benchmarks.models.logistic import logistic
from benchmarks.models.table import CASES
from benchmarks.sides.programs import built
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density, FlatWorld

# A hundred thousand rows say no more about the model than a hundred.
SMALL = [*(case for case in CASES.values() if case.rows < 10_000), logistic(100, 3)]
POINTS = 3
RELATIVE = 1e-4  # the peers compute in float32

cases = pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)


def _points(case: Case) -> list[tuple[dict[str, torch.Tensor], float]]:
    """Values of all latents and vi_dist's log joint there, Jacobian left out."""
    model, layout = built(case, torch.float64)
    points = []
    with model_context(torch.float64):
        for _ in range(POINTS):
            flat = layout.loc + 0.3 * torch.randn(layout.size)
            world = FlatWorld(model, layout, flat)
            with world:
                values = {site.name: world.call(site.variable) for site in layout.latents}
            points.append((values, float(Density(model, layout, jacobian=False)(flat))))
    return points


@cases
def test_numpyro_form(case: Case) -> None:
    pytest.importorskip("numpyro")
    from numpyro.infer.util import log_density

    data = {name: _single(array) for name, array in case.data().items()}
    for values, expected in _points(case):
        plain = {name: _single(value.numpy()) for name, value in values.items()}
        found, _ = log_density(case.numpyro_model, (data,), {}, plain)
        assert math.isclose(float(found), expected, rel_tol=RELATIVE)


def _single(array: Any) -> Any:
    import jax.numpy as jnp

    return jnp.asarray(array, jnp.float32 if array.dtype.kind == "f" else jnp.int32)


@cases
@pytest.mark.parametrize("particles", [None, 2])
def test_pyro_form(case: Case, particles: int | None) -> None:
    pyro = pytest.importorskip("pyro")
    data = {name: torch.as_tensor(array) for name, array in case.data().items()}
    for values, expected in _points(case):
        if particles:  # batched as under vectorised particles: every latent has a leading axis
            values = {name: value.expand(particles, *value.shape) for name, value in values.items()}
        conditioned = pyro.poutine.condition(case.pyro_model, values)
        trace = pyro.poutine.trace(conditioned).get_trace(data)
        found = trace.log_prob_sum() / (particles or 1)
        if particles:
            trace.compute_log_prob()
            observed = [
                site
                for site in trace.nodes.values()
                if site.get("is_observed") and site["name"] not in values
            ]
            assert [site["log_prob"].shape for site in observed] == [(particles,)]
        assert math.isclose(float(found), expected, rel_tol=RELATIVE)
