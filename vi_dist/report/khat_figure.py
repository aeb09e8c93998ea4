"""k-hat of every configuration beside the gap between its bounds, which are what a verdict rests on."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vi_dist.evaluation.pareto import khat_threshold
from vi_dist.evaluation.verdict import GOOD_GAP
from vi_dist.report.contenders import ranked
from vi_dist.report.findings import Findings, thinned
from vi_dist.report.palette import INK, MUTED, colour, house_style

_NEAREST, _HIGHEST = 1e-3, 1.5
_POINTS = 1000
"""Points that are drawn; of more configurations every so many-th in rank order is."""


def khat_figure(findings: Findings) -> Figure:
    """Pareto k-hat against importance-weighted bound minus ELBO, a point a configuration, coloured by guide family.

    Raises `LookupError` if no configuration has a k-hat.
    """
    frame = ranked(findings.frame)
    frame = frame[np.isfinite(frame["elbo"]) & np.isfinite(frame["iw_elbo"]) & frame["khat"].notna()]
    if findings.picked:
        frame = frame[frame["key"].isin([one.key for one in findings.contenders])]
    if frame.empty:
        raise LookupError("no configuration finished with a k-hat")
    frame = thinned(frame, _POINTS)
    guides = findings.choices["guide"].loc[frame["key"]].to_numpy()
    gaps = (frame["iw_elbo"] - frame["elbo"]).clip(lower=_NEAREST).to_numpy()
    # A few that went wrong would squeeze the rest; they stand at the edge.
    gaps = np.minimum(gaps, max(3 * float(np.quantile(gaps, 0.9)), 3 * GOOD_GAP))
    heights = frame["khat"].clip(lower=-0.2, upper=_HIGHEST).to_numpy()
    with house_style():
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        axes = figure.subplots()
        for place, guide in enumerate(dict.fromkeys(guides)):
            mine = guides == guide
            axes.scatter(
                gaps[mine], heights[mine], s=20, alpha=0.75, linewidths=0, color=colour(place), label=guide
            )
        axes.scatter(gaps[0], heights[0], s=90, facecolors="none", edgecolors=INK, linewidths=1.2)
        axes.annotate("winner", (gaps[0], heights[0]), xytext=(7, 7), textcoords="offset points", fontsize=8)
        axes.set(xscale="log", xlabel="importance-weighted bound − ELBO (nats)", ylabel="k-hat")
        axes.set_xlim(_NEAREST * 0.7, float(gaps.max()) * 1.4)
        axes.set_ylim(min(0.0, float(heights.min())) - 0.05, max(0.8, float(heights.max())) + 0.08)
        samples = int(findings.spec.get("evaluation", {}).get("samples", 4096))
        _limits(axes, khat_threshold(samples))
        figure.legend(loc="outside lower center", ncols=min(5, len(set(guides))))
    return figure


def _limits(axes: Axes, threshold: float) -> None:
    """The lines that part trust from distrust, each with its number."""
    line: dict[str, Any] = {"color": MUTED, "linewidth": 1, "linestyle": "--"}
    look: dict[str, Any] = {"fontsize": 8, "color": MUTED, "textcoords": "offset points"}
    if threshold > axes.get_ylim()[0]:  # that of a few draws lies far below the axes
        axes.axhline(threshold, **line)
        axes.annotate(
            f"k-hat {threshold:.2f}", (0, threshold), (4, 3), xycoords=("axes fraction", "data"), **look
        )
    axes.axvline(GOOD_GAP, **line)
    axes.annotate(f"gap {GOOD_GAP:g}", (GOOD_GAP, 1), (4, -9), xycoords=("data", "axes fraction"), **look)
