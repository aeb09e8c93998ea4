"""Pyro: `SVI.step`, one configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.models.case import Array
from benchmarks.sides.side import Gaussian, Job


class Pyro:
    """`SVI.step` in a loop, with `AutoNormal` or `AutoMultivariateNormal`, `Trace_ELBO` and `pyro.optim.Adam`.

    Particles are vectorised and validation is off: Pyro at its best.
    """

    name = "pyro"

    def __init__(self, job: Job, start: dict[str, Array]) -> None:
        import pyro
        from pyro.infer import SVI, Trace_ELBO, autoguide
        from pyro.infer.autoguide.initialization import init_to_value

        pyro.enable_validation(False)
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        self._job = job
        arrays = {name: torch.as_tensor(array) for name, array in job.case.data().items()}
        self._data = {
            name: (t.float() if t.is_floating_point() else t).to(job.device) for name, t in arrays.items()
        }
        kind = autoguide.AutoNormal if job.guide == "mean_field" else autoguide.AutoMultivariateNormal
        values = {name: torch.as_tensor(value, device=job.device) for name, value in start.items()}
        self._guide = kind(job.case.pyro_model, init_scale=0.1, init_loc_fn=init_to_value(values=values))
        self._adam = pyro.optim.Adam({"lr": job.rates()[0]})
        several = job.samples > 1
        loss = Trace_ELBO(num_particles=job.samples, vectorize_particles=several, max_plate_nesting=0)
        self._svi = SVI(job.case.pyro_model, self._guide, self._adam, loss)

    def advance(self, steps: int) -> Array:
        return np.array([[self._svi.step(self._data)] for _ in range(steps)])

    def set_rate(self, factor: float) -> None:
        for optimizer in self._adam.optim_objs.values():
            for group in optimizer.param_groups:
                group["lr"] = factor * self._job.rates()[0]

    def guide(self) -> Gaussian:
        with torch.no_grad():
            return _learned(self._guide, self._job.guide)


def _learned(guide: Any, kind: str) -> Gaussian:
    names = [name for name, _ in guide.prototype_trace.iter_stochastic_nodes()]
    if kind == "full_rank":
        named = [(name, int(np.prod(guide._unconstrained_shapes[name]))) for name in names]
        tril = guide.scale[:, None] * guide.scale_tril
        return Gaussian(named, guide.loc.cpu().numpy(), tril.cpu().numpy())
    locs = [getattr(guide.locs, name).reshape(-1) for name in names]
    scales = [getattr(guide.scales, name).reshape(-1) for name in names]
    named = [(name, len(loc)) for name, loc in zip(names, locs, strict=True)]
    return Gaussian(named, torch.cat(locs).cpu().numpy(), torch.cat(scales).diag().cpu().numpy())
