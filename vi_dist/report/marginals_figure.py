"""Marginals of the best approximations, laid over one another."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vi_dist.report.findings import Findings
from vi_dist.report.palette import colour, house_style
from vi_dist.report.stored_draws import NO_DRAWS

_PANELS, _COLUMNS, _GRID = 12, 4, 128
_DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (8, 3)), (0, (3, 1.5, 1, 1.5, 1, 1.5)))


def marginals_figure(findings: Findings) -> Figure:
    """The marginal densities of the contenders, a panel an element; of many elements those that differ most.

    Raises `LookupError` if there is nothing to draw from.
    """
    tables = findings.draws(len(findings.contenders))
    if not tables:
        raise LookupError(NO_DRAWS)
    elements = most_different(list(tables.values()), _PANELS)
    rows = math.ceil(len(elements) / _COLUMNS)
    with house_style():
        figure = Figure(figsize=(8.4, 0.5 + 1.75 * rows), layout="constrained")
        panels = figure.subplots(rows, min(_COLUMNS, len(elements)), squeeze=False)
        for axes, element in zip(panels.flat, elements, strict=False):
            for place, contender in enumerate(findings.contenders):
                if contender.key in tables:
                    values = tables[contender.key][element].to_numpy(float)
                    _density(axes, values, contender.label, place)
            axes.set(title=element, yticks=[])
            axes.set_ylim(bottom=0)
            axes.spines["left"].set_visible(False)
            axes.grid(visible=False)
            axes.set_xlim(*_window(tables, element))
        for axes in list(panels.flat)[len(elements) :]:
            axes.set_visible(False)
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def most_different(tables: Sequence[pd.DataFrame], count: int) -> list[str]:
    """The elements on which the tables' means and standard deviations differ most, in the first one's order."""
    first = tables[0]
    common = [name for name in first.columns if all(name in table for table in tables)]
    sd = first[common].std().replace(0, np.nan)
    apart = np.zeros(len(common))
    for table in tables[1:]:
        mean_gap = (table[common].mean() - first[common].mean()).abs() / sd
        sd_gap = (table[common].std() / sd - 1).abs()
        apart = np.fmax(apart, np.fmax(mean_gap.to_numpy(), sd_gap.to_numpy()))
    kept = np.sort(np.argsort(-apart, kind="stable")[:count])
    return [str(common[place]) for place in kept]


def _density(axes: Axes, values: np.ndarray, label: str, place: int) -> None:
    """A kernel density estimate; a vertical line for a point. Dashes let equal curves show through one another."""
    values = values[np.isfinite(values)]
    look: dict[str, Any] = {
        "color": colour(place),
        "linestyle": _DASHES[place % len(_DASHES)],
        "linewidth": 1.4,
    }
    if values.size < 2 or np.ptp(values) == 0:
        axes.axvline(values[0] if values.size else math.nan, label=label, **look)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ's import tells of its own future
        import arviz as az
    grid, density = az.kde(values, grid_len=_GRID)
    axes.plot(grid, density, label=label, **look)
    if place == 0:
        axes.fill_between(grid, density, color=colour(place), alpha=0.14, linewidth=0)


def _window(tables: Mapping[str, pd.DataFrame], element: str) -> tuple[float, float]:
    """Where nearly all of the draws are; heavy tails would squeeze the rest."""
    values = np.concatenate([table[element].to_numpy(float) for table in tables.values()])
    low, high = np.nanquantile(values, [0.003, 0.997])
    margin = 0.05 * (high - low) or 1.0
    return float(low - margin), float(high + margin)
