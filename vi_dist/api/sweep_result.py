"""`SweepResult`: what a sweep found, read from its directory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from vi_dist.api import arguments
from vi_dist.api.checks import as_arrays
from vi_dist.api.fit import Fit, make_fit
from vi_dist.api.resuming import check_model
from vi_dist.api.shards import sharding
from vi_dist.checked_files import read_json
from vi_dist.cluster.build_source import BuildSource, check_build
from vi_dist.cluster.columns import DTYPES
from vi_dist.cluster.prepared import PreparedModel, prepare
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.sweep_files import read_curve, read_params
from vi_dist.errors import SpecError
from vi_dist.evaluation.verdict import Verdict
from vi_dist.redaction import redacted
from vi_dist.report.leaderboard import best, unranked
from vi_dist.report.sweep_directory import (
    MENDING,
    PLAN,
    SPOOL,
    find_sweep,
    read_curves,
    read_leaderboard,
    read_rungs,
    read_spec,
    read_summary,
)
from vi_dist.sweep.spec import SweepSpec
from vi_dist.sweep.values import show
from vi_dist.tracking.state import State
from vi_dist.tracking.sync import stored_uri

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vi_dist.report.findings import Findings
    from vi_dist.report.stored_draws import Drawer, Draws


class SweepResult:
    """A sweep's leaderboard, curves and fits.

    Args:
        directory: the sweep's own; `find_sweep` finds the newest in an output directory.
        build: where the model comes from; None where only tables are wanted.
        data: what it is built on.
        setup: of the sweep, where it ran in this process: its models serve again.

    Attributes:
        directory: the sweep's own directory.
        output_dir: the output directory, which sweeps share.
    """

    def __init__(
        self,
        directory: Path,
        build: BuildSource | None = None,
        data: object = None,
        setup: Setup | None = None,
    ) -> None:
        self.directory, self.output_dir = directory, directory.parent
        self._build, self._data, self._setup = build, data, setup

    @classmethod
    def load(cls, directory: Path | str, build: Any = None, data: object = None) -> SweepResult:
        """The result in a sweep's directory, or of the newest sweep in an output directory.

        A sweep of a spec finds its model and data by itself, if the model's file is the one that the sweep was made
        with; `build` and `data` replace them. Where they are gone or have changed, tables, figures and the verdict are
        there all the same.
        """
        found = find_sweep(arguments.folder(directory, "directory"))
        check_build(build)
        source = BuildSource(path=build) if isinstance(build, str) else build and BuildSource(function=build)
        try:
            spec = read_spec(found)
            if source is None and spec.model is not None:
                check_model(spec, found)
        except SpecError as error:
            log.warning("the model of %s is left out: %s", found.name, error)
            return cls(found, source, data)
        if source is None and spec.model:
            source = BuildSource(path=spec.model)
        return cls(found, source, spec.data if data is None else data)

    def dataframe(self) -> pd.DataFrame:
        """The leaderboard in rank order: rank, key, name, what was chosen, status, reason, elbo, ..., run_id."""
        return read_leaderboard(self.directory)

    def curves(self) -> pd.DataFrame:
        """Every point of every curve, long: configuration (its key), step, metric, value."""
        return read_curves(self.directory)

    def rungs(self) -> pd.DataFrame:
        """Everything that was ranked at rungs, long: generation, rung, steps, key, value, rank, goes_on, of."""
        return read_rungs(self.directory)

    def best(self) -> Fit:
        """The fit of rank 1; where a budget stopped all, the best of those.

        Raises `LookupError` if nothing could be ranked; `get` has each fit.
        """
        frame = self.dataframe()
        row = best(frame)
        if row is None:
            raise LookupError(f"{unranked(frame)}; dataframe() holds the reasons, get(key) each fit")
        return self.get(str(row["key"]))

    def get(self, key: str) -> Fit:
        """The fit of a configuration. Raises `KeyError` for a key that the sweep has not."""
        frame = self.dataframe()
        rows = frame[frame["key"] == key] if isinstance(key, str) else frame[:0]
        if rows.empty:
            raise KeyError(
                f"{show(key)} is not a configuration of this sweep; the column key of dataframe() lists them"
            )
        dtype = DTYPES[self._configurations[key]["dtype"]]
        losses = read_curve(self.directory, key, "train/loss").to(dtype)
        params = read_params(self.directory, key)
        row = dict(zip(rows.columns, rows.iloc[0], strict=True))
        return make_fit(key, self._configurations[key], row, losses, params, self._prepared)

    def verdict(self) -> Verdict:
        """Whether to trust the winner: a word, a sentence and the reasons.

        It looks at k-hat and the effective sample size of the importance weights, at the gap between ELBO and
        importance-weighted bound, at how far the next best configurations are from the winner in means and standard
        deviations, and at whether the winner converged. Raises `LookupError` if nothing could be ranked.
        """
        from vi_dist.report.judging import judged

        return judged(self.dataframe(), self.drawer, self.spec.evaluation.samples)

    def plot_curves(self, keys: Sequence[str] | None = None) -> Figure:
        """The ELBO during training as a matplotlib figure: the best of every guide and divergence over all others.

        `keys` (keys, names or ranks) picks other configurations, here and in the other figures.
        """
        from vi_dist.report.curves_figure import curves_figure

        return curves_figure(self._findings(keys))

    def plot_hyperparameters(self, keys: Sequence[str] | None = None) -> Figure:
        """The final ELBO against every hyperparameter that varies, as a matplotlib figure."""
        from vi_dist.report.hyperparameters_figure import hyperparameters_figure

        return hyperparameters_figure(self._findings(keys))

    def plot_marginals(self, keys: Sequence[str] | None = None) -> Figure:
        """Marginals of the best approximations laid over one another, as a matplotlib figure."""
        from vi_dist.report.marginals_figure import marginals_figure

        return marginals_figure(self._findings(keys))

    def report(self, keys: Sequence[str] | None = None) -> str:
        """The report as one HTML page that needs nothing else."""
        from vi_dist.report.page import page

        return page(self._findings(keys))

    @cached_property
    def spec(self) -> SweepSpec:
        """The sweep's spec with every default."""
        return read_spec(self.directory)

    @property
    def timings(self) -> dict[str, float]:
        """Seconds of the wall time by part: start_up, stepping, evaluation, tracking, other; and wall."""
        return read_summary(self.directory).timings

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the sweep."""
        return read_summary(self.directory).interrupted

    @property
    def champion(self) -> str:
        """Which version of the registered model the winner is, and whether it is its champion or why not, a sentence.

        Empty where nothing was registered, or where MLflow was away at the sweep's end.
        """
        return read_summary(self.directory).champion

    @property
    def tracking_error(self) -> str | None:
        """What kept results from MLflow; None if nothing did."""
        return read_summary(self.directory).tracking_error

    @property
    def tracking_uri(self) -> str:
        """MLflow's, without its password."""
        return redacted(stored_uri(self.directory / SPOOL))

    @property
    def experiment_id(self) -> str | None:
        """The MLflow experiment; None if nothing has reached MLflow."""
        return State.load(self.directory / SPOOL).experiment_id or None

    @property
    def parent_run_id(self) -> str | None:
        """The sweep's own MLflow run; None if nothing has reached MLflow."""
        return State.load(self.directory / SPOOL).parent_run_id or None

    def _findings(self, keys: Sequence[str] | None) -> Findings:
        """What the figures are drawn from."""
        from vi_dist.report.findings import Findings

        return Findings.read(self.directory, arguments.names(keys), self.drawer)

    @cached_property
    def drawer(self) -> Drawer:
        """Gives 4,000 draws ``{query: (n, *shape)}`` of the configuration with a key, and keeps them.

        They come from what the sweep's directory holds; where its queries could not be traced, from the model itself.
        """
        from vi_dist.report.stored_draws import DRAWS, stored_drawer

        stored = stored_drawer(self.directory)

        @cache
        def draw(key: str) -> Draws:
            try:
                return stored(key)
            except LookupError as error:
                try:
                    return {name: values.numpy() for name, values in self.get(key).sample(DRAWS).items()}
                except ValueError:
                    raise error from None

        return draw

    @cached_property
    def _configurations(self) -> dict[str, dict[str, Any]]:
        plan = read_json(self.directory / PLAN, MENDING)
        found: dict[str, dict[str, Any]] = plan["configurations"]
        return found

    @cached_property
    def _prepared(self) -> PreparedModel | None:
        """The model on all rows, which all fits of the sweep share; built when the first of them needs it."""
        if self._setup is not None:
            return prepare(replace(self._setup, holdout=None), DTYPES[self.spec.dtype])
        if self._build is None:
            return None
        setup = Setup(
            self._build,
            as_arrays(self._data, self.spec.columns),
            shards=sharding(self.spec, self._data),
            columns=self.spec.columns,
        )
        return prepare(setup, DTYPES[self.spec.dtype])
