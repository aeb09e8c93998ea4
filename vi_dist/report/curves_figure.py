"""The ELBO during training: every configuration as a thin line, the contenders in colour with their seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from vi_dist.report.findings import THIN, Findings
from vi_dist.report.palette import FAINT, colour, house_style


def curves_figure(findings: Findings) -> Figure:
    """The curves, seeds averaged, a band of one standard deviation over them; the last three quarters again, closer.

    Raises `LookupError` if there are no curves.
    """
    curves = findings.curves
    if curves.empty:
        raise LookupError("no curves are kept yet: the sweep is on its way")
    last = int(curves.index[-1])
    with house_style():
        figure = Figure(figsize=(8.4, 3.9), layout="constrained")
        whole, end = figure.subplots(1, 2)
        for axes, since in ((whole, 0.03), (end, 0.25)):
            later = curves[curves.index >= since * last]
            _draw(axes, findings, curves if axes is whole else later)
            axes.set_xlabel("optimizer step")
            axes.set_ylim(*_limits(later, findings))
        whole.set(xscale="log", ylabel="ELBO (nats)", title="all steps", xlim=(curves.index[0], last))
        end.set(title="the last three quarters, closer", xlim=(0.25 * last, last))
        handles, labels = whole.get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _draw(axes: Axes, findings: Findings, curves: pd.DataFrame) -> None:
    """All lines of one panel."""
    if not findings.picked:
        _others(axes, curves, findings)
    for place, contender in enumerate(findings.contenders):
        seeds = [key for key in contender.seeds if key in curves]
        if seeds:
            label = contender.label + (f" ({len(seeds)} seeds)" if len(seeds) > 1 else "")
            _average(axes, curves[seeds], label, colour(place))


def _average(axes: Axes, curves: pd.DataFrame, label: str, colour: str) -> None:
    """The mean of some seeds' curves, with a band of a standard deviation to both sides."""
    # Where a seed has stopped the mean would jump to that of the others.
    whole = curves.dropna()
    mean, steps = whole.mean(axis=1), whole.index.to_numpy()
    axes.plot(steps, mean, color=colour, label=label, zorder=3)
    if curves.shape[1] > 1:
        sd = whole.std(axis=1, ddof=1)
        axes.fill_between(steps, mean - sd, mean + sd, color=colour, alpha=0.22, linewidth=0, zorder=2)


def _others(axes: Axes, curves: pd.DataFrame, findings: Findings) -> None:
    """Thin lines for what is not among the contenders, the best of them if they are too many."""
    coloured = {key for contender in findings.contenders for key in contender.seeds}
    keys = [key for key in findings.frame["key"] if key in curves and key not in coloured][:THIN]
    lines = [np.column_stack((curves.index, curves[key])) for key in keys]
    axes.add_collection(
        LineCollection(lines, colors=FAINT, linewidths=0.5, alpha=0.55, zorder=1), autolim=False
    )


def _limits(curves: pd.DataFrame, findings: Findings) -> tuple[float, float]:
    """Room for the contenders' curves from here on."""
    keys = [key for contender in findings.contenders for key in contender.seeds if key in curves]
    values = curves[keys or list(curves.columns)].to_numpy()
    if not np.isfinite(values).any():
        return 0.0, 1.0
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin
