"""What each hyperparameter does to the objective, a panel each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vi_dist.report.contenders import ranked, varying
from vi_dist.report.findings import Findings, thinned
from vi_dist.report.leaderboard import objective_of
from vi_dist.report.palette import FAINT, INK, colour, house_style

_COLUMNS = 3
_REACH = 4.0
"""How far down the axis reaches, in distances between the best and the median."""
_GROUPS = 5
"""Into how many groups a number is cut to see how much it matters."""
_POINTS = 4000
"""Points in all panels together; of more configurations every so many-th in rank order is drawn."""


def hyperparameters_figure(findings: Findings) -> Figure:
    """What the sweep is ranked by against every hyperparameter that varies.

    Raises `LookupError` if nothing finished or nothing varies.
    """
    table = _table(findings)
    names = [name for name in varying(table.drop(columns=["value", "rank"])) if not _follows(table, name)]
    if not names:
        raise LookupError("fewer than two configurations that are ranked, or nothing in which they differ")
    columns = 2 if len(names) in (2, 4) else min(_COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    with house_style():
        figure = Figure(figsize=(8.4, 0.5 + 2.7 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
        guides = list(dict.fromkeys(table.sort_values("rank")["guide"]))
        for axes, name in zip(panels.flat, names, strict=False):
            _panel(axes, table, name, guides, _POINTS // len(names))
            axes.set_title(f"{name}: {explained(table[name], table['rank']):.0%}")
        for axes in list(panels.flat)[len(names) :]:
            axes.set_visible(False)
        panels[0, 0].set_ylim(*_limits(table["value"]))
        objective = objective_of(findings.frame)
        figure.supylabel("final ELBO (nats)" if objective == "elbo" else objective, fontsize=9)
        if len(guides) > 1:
            handles, labels = panels[0, 0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(guides)))
    return figure


def explained(values: pd.Series, rank: pd.Series) -> float:
    """The share of the variance of ranks that groups of equal (or, for numbers, near) values account for.

    Less what as many groups would account for by chance (adjusted R squared), and not below 0.

    >>> explained(pd.Series(["a", "a", "b", "b"]), pd.Series([1.0, 2.0, 3.0, 4.0]))
    0.7
    """
    groups = values
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > _GROUPS:
        groups = pd.qcut(values, _GROUPS, labels=False, duplicates="drop")
    within = float(((rank - rank.groupby(groups).transform("mean")) ** 2).sum())
    total = float(((rank - rank.mean()) ** 2).sum())
    free = len(rank) - groups.nunique()
    if not total or not free:
        return 0.0
    return max(0.0, 1 - within / total * (len(rank) - 1) / free)


def _table(findings: Findings) -> pd.DataFrame:
    """Ranked configurations: their choices, the value that ranks them, and the rank."""
    frame = ranked(findings.frame).set_index("key")
    if findings.picked:
        frame = frame.loc[[one.key for one in findings.contenders if one.key in frame.index]]
    table = findings.choices.loc[frame.index].copy()
    table["value"] = frame[objective_of(findings.frame)]
    table["rank"] = table["value"].rank(ascending=False)
    return table


def _follows(table: pd.DataFrame, name: str) -> bool:
    """Whether guide and divergence say it all: an estimator picked by ``auto`` does not vary by itself."""
    return name == "estimator" and bool((table.groupby(["guide", "divergence"])[name].nunique() == 1).all())


def _panel(axes: Axes, table: pd.DataFrame, name: str, guides: list[str], most: int) -> None:
    """One hyperparameter: numbers on an axis, everything else side by side; at most so many points."""
    values = table[name]
    numeric = pd.api.types.is_numeric_dtype(values) and name != "seed"
    levels = sorted(values.unique(), key=lambda value: value if numeric else str(value))
    shown = thinned(table.sort_values("rank", kind="stable"), most)
    spread = np.random.default_rng(0).uniform(-0.22, 0.22, len(shown))
    codes = {level: code for code, level in enumerate(levels)}
    places = (shown[name] if numeric else shown[name].map(codes)).to_numpy(float) + (0 if numeric else spread)
    low, _ = _limits(table["value"])
    below = shown["value"].to_numpy() < low
    heights = np.where(below, low, shown["value"])
    for place, guide in enumerate(guides):
        mine = (shown["guide"] == guide).to_numpy()
        look: dict[str, Any] = {"color": colour(place), "s": 14, "alpha": 0.75, "linewidths": 0}
        axes.scatter(places[mine & ~below], heights[mine & ~below], label=guide, **look)
        axes.scatter(places[mine & below], heights[mine & below], marker="v", clip_on=False, **look)
    if not numeric:
        medians = table.groupby(name)["value"].median().reindex(levels).to_numpy()
        span = np.arange(len(levels))
        axes.hlines(medians, span - 0.32, span + 0.32, color=INK, linewidth=1.4)
        texts = [str(level) for level in levels]
        turned = sum(map(len, texts)) > 26
        axes.set_xticks(span, texts, rotation=24 if turned else 0, ha="right" if turned else "center")
        axes.set_xlim(-0.6, len(levels) - 0.4)
        axes.grid(visible=False, axis="x")
    elif values.min() > 0 and values.max() / values.min() >= 8:
        axes.set_xscale("log")
    axes.axhline(table["value"].max(), color=FAINT, linewidth=0.8, linestyle=":")


def _limits(value: pd.Series) -> tuple[float, float]:
    """From a few times as far below the best as the median is, to just above the best."""
    best, median, worst = float(value.max()), float(value.median()), float(value.min())
    reach = min(best - worst, _REACH * (best - median)) or 1.0
    return best - 1.05 * reach, best + 0.06 * reach
