"""NumPyro as an expert writes it by hand: jit, scan over steps, vmap over configurations."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks.models.case import Array
from benchmarks.sides.side import Gaussian, Job


class NumPyro:
    """`SVI.update` inside one jitted scan; over configurations by vmap where there are several.

    Guides are `AutoNormal` and `AutoMultivariateNormal`, the loss is `Trace_ELBO` with `num_particles` (by vmap), the
    optimizer `numpyro.optim.Adam`. Learning rates are arguments, so that one program serves all.
    """

    def __init__(self, job: Job, start: dict[str, Array]) -> None:
        import jax

        self.name = "numpyro scan" if job.width == 1 else "numpyro scan+vmap"
        self._jax, self._job = jax, job
        self._data = {name: _single(array) for name, array in job.case.data().items()}
        self._guide = _guide(job, start)
        first = self._svi(0.01)
        first.init(jax.random.PRNGKey(0), self._data)
        self._constrain = first.constrain_fn
        self.set_rate(1.0)
        self._state = self._start()
        self._run = partial(jax.jit, static_argnums=2)(self._scan)

    def _svi(self, rate: Any) -> Any:
        from numpyro.infer import SVI, Trace_ELBO
        from numpyro.optim import Adam

        loss = Trace_ELBO(num_particles=self._job.samples)
        return SVI(self._job.case.numpyro_model, self._guide, Adam(rate), loss)

    def _start(self) -> Any:
        jax = self._jax

        def init(key: Any, rate: Any) -> Any:
            return self._svi(rate).init(key, self._data)

        if self._job.width == 1:
            return init(jax.random.PRNGKey(0), self._rates)
        seeds = jax.numpy.arange(self._job.width)
        return jax.jit(jax.vmap(init))(jax.vmap(jax.random.PRNGKey)(seeds), self._rates)

    def _scan(self, state: Any, rates: Any, steps: int) -> Any:
        def update(state: Any, rate: Any) -> Any:
            svi = self._svi(rate)
            svi.constrain_fn = self._constrain
            return svi.update(state, self._data)

        one = update if self._job.width == 1 else self._jax.vmap(update)
        return self._jax.lax.scan(lambda state, _: one(state, rates), state, None, length=steps)

    def advance(self, steps: int) -> Array:
        self._state, losses = self._jax.block_until_ready(self._run(self._state, self._rates, steps))
        return np.asarray(losses).reshape(steps, -1)

    def set_rate(self, factor: float) -> None:
        rates = factor * np.asarray(self._job.rates(), np.float32)
        self._rates = self._jax.numpy.asarray(rates[0] if self._job.width == 1 else rates)

    def guide(self) -> Gaussian:
        params = self._svi(0.01)
        params.constrain_fn = self._constrain
        values = params.get_params(self._state)
        if self._job.width > 1:
            values = self._jax.tree.map(lambda value: value[0], values)
        latent = self._guide._init_locs
        sites = [(name, int(np.size(value))) for name, value in latent.items()]
        if self._job.guide == "full_rank":
            return Gaussian(sites, np.asarray(values["auto_loc"]), np.asarray(values["auto_scale_tril"]))
        locs = [np.ravel(values[f"{name}_auto_loc"]) for name in latent]
        scales = [np.ravel(values[f"{name}_auto_scale"]) for name in latent]
        return Gaussian(sites, np.concatenate(locs), np.diag(np.concatenate(scales)))


def _guide(job: Job, start: dict[str, Array]) -> Any:
    from numpyro.infer import autoguide
    from numpyro.infer.initialization import init_to_value

    kind = autoguide.AutoNormal if job.guide == "mean_field" else autoguide.AutoMultivariateNormal
    return kind(job.case.numpyro_model, init_scale=0.1, init_loc_fn=init_to_value(values=start))


def _single(array: Array) -> Any:
    import jax.numpy as jnp

    return jnp.asarray(array, jnp.float32 if np.issubdtype(array.dtype, np.floating) else jnp.int32)
