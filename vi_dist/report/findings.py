"""Everything that the figures of a sweep are drawn from, read from its directory."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vi_dist.evaluation.verdict import Verdict
from vi_dist.report.contenders import Contender, chosen, contenders, read_choices
from vi_dist.report.judging import judged
from vi_dist.report.stored_draws import Drawer, stored_drawer
from vi_dist.report.sweep_directory import CURVES, MENDING, read_leaderboard, read_spec_data
from vi_dist.report.table_file import read_frame
from vi_dist.tracking.draws_table import draws_table

log = logging.getLogger(__name__)

BINS = 160
"""Points of a drawn curve."""
THIN = 200
"""How many curves are drawn beside those of the contenders and their seeds."""


@dataclass(frozen=True)
class Findings:
    """A sweep, or some of its configurations, ready to be drawn.

    Attributes:
        directory: the sweep's own.
        frame: the leaderboard.
        contenders: what is laid over one another.
        picked: whether the contenders are somebody's choice rather than the best of every kind.
        draw: gives draws from a configuration.
    """

    directory: Path
    frame: pd.DataFrame
    contenders: tuple[Contender, ...]
    picked: bool
    draw: Drawer

    @classmethod
    def read(cls, directory: Path, keys: Sequence[str] | None = None, draw: Drawer | None = None) -> Findings:
        """The findings in a sweep's own directory.

        Args:
            directory: the sweep's own.
            keys: of the configurations to compare; without them the best of every guide and divergence.
            draw: where draws come from; by default the directory's own guides.

        Raises `SpecError` for a key that is not there.
        """
        frame = read_leaderboard(directory)
        found = chosen(frame, keys) if keys else contenders(frame, read_choices(directory, frame))
        return cls(directory, frame, found, bool(keys), draw or stored_drawer(directory))

    @cached_property
    def spec(self) -> Mapping[str, Any]:
        """The sweep's spec as plain data; its model and data need not be on this machine."""
        return read_spec_data(self.directory)

    @cached_property
    def choices(self) -> pd.DataFrame:
        """What was chosen for each configuration: keys as index, a column a hyperparameter."""
        return read_choices(self.directory, self.frame)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """The ELBO during training: steps as index, a column a key, each point the mean of the steps behind it.

        Of the contenders with their seeds, and of the best others as far as they are drawn. Empty while the sweep is on
        its way.
        """
        file = self.directory / CURVES
        if not file.exists():
            return pd.DataFrame()
        coloured = list(dict.fromkeys(key for contender in self.contenders for key in contender.seeds))
        others = self.frame.loc[~self.frame["key"].isin(coloured), "key"].head(THIN)
        wanted = [("metric", "==", "train/elbo"), ("configuration", "in", [*coloured, *others])]
        return _binned(read_frame(file, MENDING, columns=["configuration", "step", "value"], filters=wanted))

    @cached_property
    def verdict(self) -> Verdict | None:
        """Whether to trust the winner; None if nothing finished or its guide cannot be drawn from."""
        samples = int(self.spec.get("evaluation", {}).get("samples", 4096))
        try:
            return judged(self.frame, self.draw, samples)
        except LookupError as error:
            log.info("no verdict: %s", error)
            return None

    def draws(self, count: int) -> dict[str, pd.DataFrame]:
        """Draws from the first contenders by key: a row a draw, a column an element. Those without are left out."""
        found = {}
        for contender in self.contenders[:count]:
            try:
                found[contender.key] = draws_table(self.draw(contender.key))
            except LookupError as error:
                log.info("no draws: %s", error)
        return found


def thinned(ranked: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many rows of a table in rank order, evenly from the first to the last."""
    if len(ranked) <= most:
        return ranked
    return ranked.iloc[np.linspace(0, len(ranked) - 1, most).round().astype(int)]


def _binned(long: pd.DataFrame) -> pd.DataFrame:
    """Long curves as a wide table of at most `BINS` points a curve, log-spaced, each the mean of its steps."""
    if long.empty:
        return pd.DataFrame()
    last = int(long["step"].max())
    edges = np.unique(np.geomspace(1, last, BINS).round().astype(int))
    place = np.searchsorted(edges, long["step"].to_numpy())
    value = long["value"].where(np.isfinite(long["value"]))
    means = value.groupby([edges[place], long["configuration"].to_numpy()]).mean()
    wide: pd.DataFrame = means.unstack()
    return wide
