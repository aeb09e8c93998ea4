"""The winner's draws two elements at a time."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from vi_dist.report.findings import Findings
from vi_dist.report.palette import INK, colour, house_style
from vi_dist.report.stored_draws import NO_DRAWS

_ELEMENTS = 5
_FEW = 20
"""Values that a discrete element takes at most."""
_HELD = [0.9, 0.5]
"""Shares of the draws inside the contours."""
_SHADES = (0.0, 0.14, 0.4)
"""Of what is outside, between and inside them."""


def pairs_figure(findings: Findings) -> Figure:
    """Contours of the first contender's joint densities, for the elements that depend most on one another.

    Raises `LookupError` if it cannot be drawn from, or has one element only.
    """
    tables = findings.draws(1)
    if not tables:
        raise LookupError(NO_DRAWS)
    (table,) = tables.values()
    elements = most_dependent(table, _ELEMENTS)
    if len(elements) < 2:
        raise LookupError("pairs need two elements that vary, and take more than a few values")
    data = {name: table[name].to_numpy(float)[None] for name in elements}
    with warnings.catch_warnings(), house_style():
        warnings.simplefilter("ignore")  # ArviZ's import tells of its own future
        import arviz as az

        figure = Figure(figsize=(8.4, 1.5 * len(elements) + 0.6))
        panels = figure.subplots(len(elements), len(elements))
        az.plot_pair(
            az.from_dict(posterior=data),
            kind="kde",
            marginals=True,
            ax=panels,
            kde_kwargs={
                "hdi_probs": _HELD,
                "fill_last": True,  # or ArviZ replaces the shades by its own
                "contour_kwargs": {"colors": colour(0), "linewidths": 1.1},
                "contourf_kwargs": {"colors": [(*to_rgb(colour(0)), shade) for shade in _SHADES]},
            },
            marginal_kwargs={"color": INK, "plot_kwargs": {"linewidth": 1.2}},
        )
        for axes in panels.flat:
            axes.grid(visible=False)
            axes.tick_params(labelsize=7)
            axes.xaxis.label.set_size(9)
            axes.yaxis.label.set_size(9)
        for axes in panels.diagonal():
            axes.set_yticks([])
        figure.subplots_adjust(left=0.09, right=0.99, top=0.99, bottom=0.08, hspace=0.12, wspace=0.12)
        figure.align_labels()
    return figure


def most_dependent(table: pd.DataFrame, count: int) -> list[str]:
    """The elements that correlate most strongly, in the table's order; discrete ones have no contours."""
    moving = table.loc[:, table.nunique() > _FEW]
    matrix = moving.corr().abs().to_numpy(copy=True)
    np.fill_diagonal(matrix, 0.0)
    strongest = pd.Series(matrix.max(axis=0, initial=0.0), index=moving.columns)
    kept = set(strongest.sort_values(ascending=False, kind="stable").index[:count])
    return [str(name) for name in moving.columns if name in kept]
