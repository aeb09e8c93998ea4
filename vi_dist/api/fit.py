"""`Fit`: one fitted approximation, how it came out, and draws from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vi_dist.api import arguments
from vi_dist.api.fitted_guide import NUMBERS, FittedGuide
from vi_dist.cluster.prepared import PreparedModel

if TYPE_CHECKING:
    from arviz import InferenceData

    from vi_dist.vi.variational_world import VariationalWorld


@dataclass(frozen=True)
class Fit(FittedGuide):
    """The result of fitting one configuration.

    Attributes:
        key: twelve hex digits that stand for configuration, data and code.
        name: for people, such as ``full_rank-amari0.5-lr0.01-s0``.
        configuration: every choice, with all defaults.
        status: finished | stopped | diverged | failed | interrupted.
        reason: why, in a sentence.
        steps: steps taken.
        losses: the objective at every step, `(steps,)`.
        elbo: evidence lower bound on the common evaluation noise, with its standard error `elbo_se`.
        iw_elbo: importance-weighted bound.
        khat: Pareto k-hat of the importance weights.
        elpd: log predictive density of rows held out, with its standard error `elpd_se`.
        seconds: its share of the time its pack took.
        params: the guide's parameters, and the model's own as ``model.<name>``.
    """

    def sample(self, n: int, seed: int = 0, resample: bool = False) -> dict[str, Tensor]:
        """n draws `(n, *shape)` of every query, functionals included, in the model's own space, by its name.

        Draw k depends on `seed` and k only. With `resample` the draws are n of max(4n, 4096) draws of the guide, chosen
        by their Pareto-smoothed importance weights (Vehtari et al., arXiv 1507.02646): nearer to the posterior where
        k-hat is small, and some of them equal, since they are taken with replacement (without it, a quarter of all
        draws would lean towards the guide). They are chosen by strata, which varies less than by chance (Douc and
        Cappé, arXiv cs/0507025), and all n depend on `seed` and n. A k-hat above its threshold is warned about.

        Raises `ValueError` for a fit that has no params, or no model to run; with `resample` also for a guide without
        density, and for a fit of several shards.
        """
        from vi_dist.api.draws import drawn_rows

        rows = drawn_rows(self, n, seed, resample)
        return self.ready().constrain(rows)

    def predict(self, n: int, seed: int = 0, resample: bool = False) -> dict[str, Tensor]:
        """n posterior predictive draws `(n, *shape)` of every observed variable, by its name, shaped as observed.

        Draw k is one replication of the data at draw k of `sample` with the same arguments; the model runs n times.
        What the model computes from observed variables it computes from the replicated ones; what it reads from its
        data stays. Torch's global generators are left alone. Raises `ValueError` as `sample` does, and for a fit of
        several shards; `ModelError` for a distribution that cannot be drawn from.
        """
        from vi_dist.api.draws import drawn_rows, predicted

        return predicted(self, drawn_rows(self, n, seed, resample), seed)

    def to_inference_data(self, n: int = 1000, seed: int = 0, resample: bool = False) -> InferenceData:
        """ArviZ's `InferenceData` of `sample`, `predict` and the observations, for its plots and tables.

        Groups `posterior` and `posterior_predictive` (one chain of n draws) and `observed_data`; the posterior's attrs
        hold elbo, elbo_se, iw_elbo, khat, guide, configuration and key. ArviZ's r_hat and ess are about Markov chains
        and say nothing of a guide. Raises as `predict` does.
        """
        from vi_dist.api.inference_data import inference_data

        return inference_data(self, n, seed, resample)

    def world(self) -> VariationalWorld:
        """A world of the model whose latents take their values from this guide, drawn anew in each world.

        Raises `ModelError` for a model with discrete latents: they are summed out and have no guide.
        """
        from vi_dist.api.guided_world import guided_world

        return guided_world(self)

    def save(self, directory: Path | str) -> None:
        """Write the fit: its params as safetensors, everything else as JSON, no pickle; and how to draw from it."""
        from vi_dist.api.fit_files import save_fit

        save_fit(self, arguments.folder(directory, "directory"))

    @classmethod
    def load(cls, directory: Path | str, build: Any, data: object = None) -> Fit:
        """The fit that `save` wrote, on the model that `build` makes of `data`.

        Raises `SpecError` if there is none, or if the model has not the coordinates that the params belong to.
        """
        from vi_dist.api.fit_files import load_fit

        return load_fit(arguments.folder(directory, "directory"), build, data, make_fit)


def make_fit(
    key: str,
    configuration: Mapping[str, Any],
    row: Mapping[str, Any],
    losses: Tensor,
    params: Mapping[str, Tensor],
    prepared: PreparedModel | None,
) -> Fit:
    """A fit from its row of the leaderboard, its curve and its params."""
    numbers = {name: float(row.get(name, math.nan)) for name in NUMBERS}
    return Fit(
        key=key,
        name=str(row["name"]),
        configuration=dict(configuration),
        status=str(row["status"]),
        reason=str(row["reason"]),
        steps=int(row["steps"]),
        losses=losses,
        params=dict(params),
        prepared=prepared,
        **numbers,
    )
