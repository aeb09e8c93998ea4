"""`SweepResult`: what a sweep found, read from its directory."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from vi_dist.api.checks import as_arrays
from vi_dist.api.fit import Fit, make_fit
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.columns import DTYPES
from vi_dist.cluster.prepared import PreparedModel
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.sweep_files import read_curve, read_params
from vi_dist.evaluation.verdict import Verdict
from vi_dist.report.leaderboard import best
from vi_dist.report.sweep_directory import (
    PLAN,
    SPEC,
    SPOOL,
    find_sweep,
    read_curves,
    read_leaderboard,
    read_summary,
)
from vi_dist.sweep.spec import SweepSpec, load_spec
from vi_dist.tracking.state import State
from vi_dist.tracking.sync import stored_uri


class SweepResult:
    """A sweep's leaderboard, curves and fits.

    Args:
        directory: the sweep's own; `find_sweep` finds the newest in an output directory.
        build: where the model comes from; None where only tables are wanted.
        data: what it is built on.

    Attributes:
        directory: the sweep's own directory.
        output_dir: the output directory, which sweeps share.
    """

    def __init__(self, directory: Path, build: BuildSource | None = None, data: object = None) -> None:
        self.directory, self.output_dir = directory, directory.parent
        self._build, self._data = build, data

    @classmethod
    def load(cls, directory: Path | str, build: Any = None, data: object = None) -> SweepResult:
        """The result in a sweep's directory, or of the newest sweep in an output directory.

        A sweep of a spec finds its model and data by itself; `build` and `data` replace them.
        """
        found = find_sweep(Path(directory))
        spec = load_spec(found / SPEC, needs_model=False)
        if build is not None:
            source = BuildSource(path=build) if isinstance(build, str) else BuildSource(function=build)
            return cls(found, source, data)
        return cls(found, BuildSource(path=spec.model) if spec.model else None, spec.data)

    def dataframe(self) -> pd.DataFrame:
        """The leaderboard in rank order: rank, key, name, what was chosen, status, reason, elbo, ..., run_id."""
        return read_leaderboard(self.directory)

    def curves(self) -> pd.DataFrame:
        """Every point of every curve, long: configuration (its key), step, metric, value."""
        return read_curves(self.directory)

    def best(self) -> Fit:
        """The fit of rank 1. Raises `LookupError` if none finished."""
        row = best(self.dataframe())
        if row is None:
            raise LookupError("no configuration finished; dataframe() holds the reasons")
        return self.get(str(row["key"]))

    def get(self, key: str) -> Fit:
        """The fit of a configuration. Raises `KeyError` for a key that the sweep has not."""
        frame = self.dataframe()
        rows = frame[frame["key"] == key]
        if rows.empty:
            raise KeyError(
                f"{key!r} is not a configuration of this sweep; the column key of dataframe() lists them"
            )
        dtype = DTYPES[self._configurations[key]["dtype"]]
        losses = read_curve(self.directory, key, "train/loss").to(dtype)
        params = read_params(self.directory, key)
        row = dict(zip(rows.columns, rows.iloc[0], strict=True))
        return make_fit(key, self._configurations[key], row, losses, params, self._prepared)

    def verdict(self) -> Verdict:
        """Whether to trust the winner: a word, a sentence and the reasons. Raises `LookupError` if nothing finished.

        It looks at k-hat, at the gap between ELBO and importance-weighted bound, and at how far the next best
        configurations are from the winner in means and standard deviations.
        """
        from vi_dist.api.judging import judged

        return judged(self)

    @cached_property
    def spec(self) -> SweepSpec:
        """The sweep's spec with every default."""
        return load_spec(self.directory / SPEC, needs_model=False)

    @property
    def timings(self) -> dict[str, float]:
        """Seconds of the wall time by part: start_up, stepping, evaluation, tracking, other; and wall."""
        return read_summary(self.directory).timings

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the sweep."""
        return read_summary(self.directory).interrupted

    @property
    def tracking_error(self) -> str | None:
        """What kept results from MLflow; None if nothing did."""
        return read_summary(self.directory).tracking_error

    @property
    def tracking_uri(self) -> str:
        """MLflow's."""
        return stored_uri(self.directory / SPOOL)

    @property
    def experiment_id(self) -> str | None:
        """The MLflow experiment; None if nothing has reached MLflow."""
        return State.load(self.directory / SPOOL).experiment_id or None

    @property
    def parent_run_id(self) -> str | None:
        """The sweep's own MLflow run; None if nothing has reached MLflow."""
        return State.load(self.directory / SPOOL).parent_run_id or None

    @cached_property
    def _configurations(self) -> dict[str, dict[str, Any]]:
        plan = json.loads((self.directory / PLAN).read_text())
        found: dict[str, dict[str, Any]] = plan["configurations"]
        return found

    @cached_property
    def _prepared(self) -> PreparedModel | None:
        """The model, which all fits of the sweep share; built when the first of them needs it."""
        if self._build is None:
            return None
        return PreparedModel(Setup(self._build, as_arrays(self._data)), DTYPES[self.spec.dtype])
