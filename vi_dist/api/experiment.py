"""`Experiment`: a model with its data, to be fitted once or under many configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from vi_dist.api import arguments
from vi_dist.cluster.build_source import Build, BuildSource
from vi_dist.cluster.timings import Timings
from vi_dist.errors import SpecError
from vi_dist.sweep.spec import SweepSpec, load_spec, make_spec
from vi_dist.sweep.values import show

if TYPE_CHECKING:
    from vi_dist.api.fit import Fit
    from vi_dist.api.objective import Objective
    from vi_dist.api.sweep_result import SweepResult
    from vi_dist.cluster.progress import ProgressCallback

Choice = str | Mapping[str, Any]
Space = Mapping[str, Any]
Values = Mapping[Any, Any]


class Experiment:
    """One model on one set of data.

    >>> import torch
    >>> from torch.distributions import Normal
    >>> from vi_dist import Model, random_variable
    >>> @random_variable
    ... def mu():
    ...     return Normal(0.0, 1.0)
    >>> @random_variable
    ... def y():
    ...     return Normal(mu(), torch.ones(3))
    >>> def build(data):
    ...     return Model([mu()], {y(): data["y"]})
    >>> fit = Experiment(build, name="normal", data={"y": [1.0, 2.0, 3.0]}).fit(steps=50, learning_rate=0.1)
    >>> fit.status, fit.losses.shape
    ('finished', torch.Size([50]))

    Args:
        build: makes a `Model` of the data, a dict of tensors; runs in every worker under `dtype`.
        name: of the MLflow experiment.
        data: a dict of arrays or tensors, a DataFrame, or the path of an npz, csv, parquet or json file.
        columns: names of the columns that `build` gets, all of them where it is None. A column that cannot be used,
            as one with holes, is refused where `build` reads it.
        dtype: ``float32`` or ``float64``; evaluation is float64 in any case.
    """

    def __init__(
        self,
        build: Build,
        *,
        name: str,
        data: object = None,
        columns: Sequence[str] | None = None,
        dtype: str = "float32",
    ) -> None:
        if not callable(build):
            raise SpecError(f"{show(build)} is not a function that builds a Model", key="build")
        space = {"guide": ["mean_field"]}
        spec = make_spec({"name": name, "dtype": dtype, "columns": columns, "space": space})
        self._source(BuildSource(function=build), name, data, spec.columns, dtype)

    def _source(
        self, build: BuildSource, name: str, data: object, columns: tuple[str, ...] | None, dtype: str
    ) -> None:
        self._build = build
        self._data, self._columns = data, columns
        self._name, self._dtype = name, dtype
        self._spec: SweepSpec | None = None

    @classmethod
    def from_spec(cls, path: str | PathLike[str], overrides: Mapping[str, Any] | None = None) -> Experiment:
        """The experiment that a YAML file describes, with dotted keys replaced (``{"space.seed": [0, 1]}``).

        `sweep()` without arguments is then the sweep of the file. Raises `SpecError`.
        """
        if overrides is not None and not (
            isinstance(overrides, Mapping) and all(isinstance(key, str) for key in overrides)
        ):
            reason = f"{show(overrides)} is no mapping of dotted keys to values"
            raise SpecError(reason, key="overrides", allowed=('{"space.seed": [0, 1]}',))
        spec = load_spec(arguments.folder(path, "path"), overrides)
        experiment = cls.__new__(cls)
        build = BuildSource(path=spec.model or "")
        experiment._source(build, spec.name, spec.data, spec.columns, spec.dtype)
        experiment._spec = spec
        return experiment

    @property
    def name(self) -> str:
        """The name of the MLflow experiment."""
        return self._name

    @property
    def spec(self) -> SweepSpec | None:
        """The spec that this experiment was read from."""
        return self._spec

    def fit(
        self,
        guide: Choice = "mean_field",
        divergence: Choice = "kl_reverse",
        estimator: Choice = "auto",
        learning_rate: float = 0.01,
        num_samples: int = 8,
        steps: int = 2000,
        averaging: float = 0.1,
        optimizer: Choice = "adam",
        seed: int = 0,
        schedule: Choice = "constant",
        initialisation: str = "prior_median",
        initial_values: Values | None = None,
        samples: int = 4096,
        compile: str = "auto",  # noqa: A002 - the spec's word
        device: str = "cpu",
        progress: ProgressCallback | None = None,
    ) -> Fit:
        """Fit one configuration here and now: a pack of one, through the code that sweeps run.

        Choices are names or ``{name: {argument: value}}``; the fit is the average of about the last part
        `averaging` of the iterates (0: of the last one alone); the guide starts at `initialisation`, of which
        ``values`` are `initial_values`, by latent (or its name), others at their prior median; `samples` are the draws
        of the evaluation. What the model raises comes through as it is. Raises `SpecError` for bad input.
        """
        from vi_dist.api.checks import as_arrays
        from vi_dist.api.fitting import fit_one
        from vi_dist.cluster.setup import Setup

        values = {
            "guide": guide,
            "divergence": divergence,
            "estimator": estimator,
            "learning_rate": learning_rate,
            "num_samples": num_samples,
            "steps": steps,
            "averaging": averaging,
            "optimizer": optimizer,
            "seed": seed,
            "schedule": schedule,
            "initialisation": initialisation,
        }
        common = {
            "name": self._name,
            "dtype": self._dtype,
            "compile": compile,
            "evaluation": {"samples": samples},
        }
        make_spec({**common, "space": {"guide": ["mean_field"]}})  # refuses of these what a sweep refuses
        arguments.callback(progress, "progress")
        arguments.values_by_name(initial_values, "initial_values")
        data = as_arrays(self._data, self._columns)
        setup = Setup(self._build, data, samples, compile=compile, columns=self._columns)
        return fit_one(setup, values, initial_values, self._dtype, device, progress)

    def sweep(
        self,
        space: Space | None = None,
        *,
        search: str | None = None,
        configurations: int | None = None,
        generation: int | None = None,
        steps: int | None = None,
        num_samples: int | None = None,
        averaging: float | None = None,
        optimizer: Choice | None = None,
        schedule: Choice | None = None,
        initialisation: str | None = None,
        initial_values: Values | None = None,
        seed: int | None = None,
        executor: str | None = None,
        address: str | None = None,
        pack_size: int | str | None = None,
        compile: str | None = None,  # noqa: A002 - the spec's word
        evaluation: Mapping[str, int] | None = None,
        objective: str | Objective | None = None,
        holdout: float | None = None,
        reference: str | PathLike[str] | None = None,
        halving: Mapping[str, int] | None = None,
        budget: Mapping[str, float] | None = None,
        time_limit: float | None = None,
        shards: int | str | None = None,
        group_by: str | None = None,
        batch_size: int | None = None,
        biased_minibatches: bool | None = None,
        checkpoint_dir: str | PathLike[str] | None = None,
        tracking_uri: str | None = None,
        output_dir: str | PathLike[str] | None = None,
        max_actors: int | None = None,
        cpus_per_actor: float | None = None,
        gpus_per_actor: float | None = None,
        champion: bool = False,
        progress: ProgressCallback | None = None,
    ) -> SweepResult:
        """Fit every configuration of a space, evaluate all of them alike and rank them.

        What is not given is as the experiment's spec says, or else the default: the whole grid, 2000 steps, 8 samples,
        adam at a constant rate, the last tenth of the iterates averaged, seed 0, executor ray, packs of up to 80, a
        database in the output directory ``./vi-dist-out``. A new `space` brings its own `search` and `configurations`.

        Args:
            space: choices as lists, ranges as ``{"low": 0.001, "high": 0.1, "log": True}`` (not in a grid).
            search: ``grid``, ``random``, ``qmc`` (a Sobol sequence) or ``tpe``, which learns from `generation` (32)
                configurations at a time what to ask next.
            initial_values: of latents or their names, for configurations whose initialisation is ``values``.
            objective: ``elbo``, ``iw_elbo``, ``elpd``, or a function of a `Fit`, called in this process, that returns a
                number; larger is better.
            holdout: part of the rows that does not train, and that elpd is of.
            reference: JSON file ``{"mu": {"mean": 1.5, "sd": 0.2}, ...}``; fits' distances to it become columns.
            halving: ``{"eta": 3, "min_steps": 500}`` stops the weakest at rungs of 500, 1500, ... steps.
            budget, time_limit: ``{"minutes": 30}`` for the sweep, seconds for each fit; what they end depends on the
                machine.
            shards, group_by: cut the data's rows into so many parts (``auto``: of 500,000 rows at most), each with an
                actor of its own; rows of one value of `group_by` stay together.
            batch_size: rows of each shard that a step sees, another part of them every step; absent, all rows.
            biased_minibatches: have batches also where they bias the gradient, which is refused otherwise.
            checkpoint_dir: of shards, any fsspec path.
            champion: give the winner the alias ``champion`` of the registered model in any case; otherwise it moves
                only from a fit of the same model and data that is trusted no more and fits less well.
            progress: called a few times a second.

        Raises:
            SpecError: bad input, before any actor starts.
            KeyboardInterrupt: the second Ctrl-C; after the first the result says `interrupted`.
        """
        timings = Timings()
        given = {name: value for name, value in locals().items() if name in SweepSpec.model_fields}
        arguments.callback(progress, "progress")
        arguments.values_by_name(initial_values, "initial_values")
        function = objective if callable(objective) else None
        if function is not None:
            given["objective"] = "callable"
        spec = self._sweep_spec(given)
        from vi_dist.api.sweeping import run_sweep

        return run_sweep(
            self._build,
            self._data,
            spec,
            progress=progress,
            timings=timings,
            objective=function,
            initial_values=initial_values,
            champion=champion,
        )

    def resume(
        self,
        directory: str | PathLike[str],
        *,
        executor: str | None = None,
        address: str | None = None,
        tracking_uri: str | None = None,
        objective: Objective | None = None,
        initial_values: Values | None = None,
        champion: bool = False,
        progress: ProgressCallback | None = None,
    ) -> SweepResult:
        """Go on with a sweep of this experiment that died or was interrupted; the result is the undisturbed one's.

        Args:
            directory: the sweep's own, or an output directory: its newest.
            executor, address: where it goes on, if not where it began.
            tracking_uri: MLflow's, if not the one it began with, or if its password was not kept.
            objective: the function that ranks, if the sweep had one; and so with `initial_values`.
            champion: as for `sweep`.

        Raises `SpecError` if the sweep is over, is still under way, or was of another model or other data.
        """
        timings = Timings()
        from vi_dist.api.resuming import read_unfinished
        from vi_dist.api.sweeping import run_sweep

        changes = {"executor": executor, "address": address, "tracking_uri": tracking_uri}
        arguments.callback(progress, "progress")
        arguments.values_by_name(initial_values, "initial_values")
        folder = arguments.folder(directory, "directory")
        found, spec = read_unfinished(folder, changes, needs_model=False)
        return run_sweep(
            self._build,
            self._data,
            spec,
            progress=progress,
            timings=timings,
            objective=objective,
            initial_values=initial_values,
            resumed=found,
            champion=champion,
        )

    def _sweep_spec(self, given: Mapping[str, Any]) -> SweepSpec:
        """The spec of a sweep: what is given over what the file says."""
        changes = {name: value for name, value in given.items() if value is not None}
        if self._spec is None:
            common = {"name": self._name, "dtype": self._dtype, "columns": self._columns}
            return make_spec({**common, **changes})
        base = self._spec.to_dict()
        if "space" in changes:
            base = {
                name: value
                for name, value in base.items()
                if name not in ("search", "configurations", "generation")
            }
        return make_spec({**base, **changes}, path=self._spec.source.path)
