"""Chart views that open a sweep ready to compare, and the URL that opens them.

MLflow keeps a shared view as an experiment tag ``mlflow.sharedViewState.<key>`` in a form it does not
document: read from its front end, version 3.17. A version that reads it otherwise opens its own default charts.
"""

from __future__ import annotations

import base64
import json
import math
import statistics
import uuid
import zlib
from collections.abc import Iterable, Sequence
from urllib.parse import quote

CURVE = "train/elbo"
DEFAULT_AXES = ["guide.family", "divergence", "optim.log10_lr", "seed"]
OBJECTIVE = "final/elbo"
_ORDER = f"metrics.`{OBJECTIVE}`"
_AXES = 8
"""Parallel axes that a page has room for."""
_LISTED = 100
"""Runs that a page lists, and that its charts of all runs show."""
_REACH, _HEADROOM = 4.0, 0.1
"""How far the curves' axis reaches down, in distances between the best and the median, and what is free above."""
_PREFIXES = ("train", "progress", "final")
_GROUPS = {"": None, "guide": "guide.family", "divergence": "divergence"}
_NAMES = {"": "Sweep", "guide": "By guide family", "divergence": "By divergence"}


def comparison_url(base: str, experiment_id: str, sweep: str, *, views: bool = True) -> str:
    """The page that shows the sweep's configurations and their curves at once, best first.

    Args:
        base: the server's address.
        experiment_id: MLflow's id of the experiment.
        sweep: the sweep's id.
        views: whether its saved views are there; without them the page has MLflow's own charts.
    """
    page = f"{base.rstrip('/')}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    page += "&compareRunsMode=CHART"
    if views:
        return f"{page}&viewStateShareKey={_share_key(sweep, '')}"
    return f"{page}&searchFilter={quote(_children(sweep))}&orderByKey={quote(_ORDER)}&orderByAsc=false"


def run_url(base: str, experiment_id: str, run_id: str) -> str:
    """The page of one run."""
    return f"{base.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"


def view_tags(
    sweep: str,
    name: str,
    parent_run_id: str,
    axes: Sequence[str],
    stamp_ms: int,
    ends: Sequence[float] = (),
) -> dict[str, str]:
    """The experiment tags that hold the sweep's views: all runs, by guide family, by divergence.

    MLflow gives scatter and parallel charts no range, so runs that end far below the others are filtered out where they
    would stand on the page; the view's name says so, and one more view has them.

    Args:
        sweep: the sweep's id.
        name: the sweep's name, part of the views' names.
        parent_run_id: shown with its children unfolded.
        axes: params for the parallel-coordinates chart; the first eight count.
        stamp_ms: when they were made.
        ends: the last values of the runs' curves.
    """
    limits, everything = curve_limits(ends), _children(sweep)
    kinds = {kind: (text, everything) for kind, text in _NAMES.items()}
    far = 0 if limits is None else sum(value < limits[0] for value in ends)
    if limits is not None and far and len(ends) - far < _LISTED:
        near = f"{everything} and metrics.`{CURVE}` >= {limits[0]:.6f}"
        kinds = {kind: (f"{text} without {far} far off", near) for kind, text in _NAMES.items()}
        kinds["all"] = ("Whole sweep", everything)
    tags = {}
    for kind, (text, query) in kinds.items():
        state = json.dumps(_state(sweep, parent_run_id, axes, query, _GROUPS.get(kind), limits))
        packed = "deflate;" + base64.b64encode(zlib.compress(state.encode())).decode()
        view = {"name": f"{text}: {name}", "createdAt": stamp_ms, "updatedAt": stamp_ms}
        tags[f"mlflow.sharedViewState.{_share_key(sweep, kind)}"] = json.dumps({**view, "state": packed})
    return tags


def curve_limits(ends: Iterable[float]) -> tuple[float, float] | None:
    """An axis on which curves can be told apart: from a few times as far below the best end as the median one is.

    So neither the first steps nor a configuration that went astray flatten the others. None without two ends that
    differ.

    >>> curve_limits([-10.0, -11.0, -12.0, -1e9])
    (-16.0, -9.4)
    """
    finite = [value for value in ends if math.isfinite(value)]
    if len(set(finite)) < 2:
        return None
    best = max(finite)
    reach = min(best - min(finite), _REACH * (best - statistics.median(finite))) or best - min(finite)
    return best - reach, best + _HEADROOM * reach


def _share_key(sweep: str, kind: str) -> str:
    """Letters and digits only, the same for the same sweep."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"vi_dist {sweep} {kind}").hex


def _children(sweep: str) -> str:
    """The filter that leaves the sweep's configurations."""
    return f"tags.`vi.role` = 'configuration' and tags.`vi.sweep` = '{sweep}'"


def _state(
    sweep: str,
    parent_run_id: str,
    axes: Sequence[str],
    query: str,
    group: str | None,
    limits: tuple[float, float] | None,
) -> dict[str, object]:
    """The state of MLflow's page, in the front end's own words."""
    curves, parallel, comparison = _sections(sweep)
    grouping = {"aggregateFunction": "average", "groupByKeys": [{"mode": "param", "groupByData": group}]}
    shown = [f"params.`{axis}`" for axis in axes[:_AXES]]
    return {
        "searchFilter": query,
        "orderByKey": _ORDER,
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": [*shown, _ORDER, "metrics.`final/khat`"],
        "columnOrder": [],
        "columnWidths": {},
        "runsExpanded": {parent_run_id: True},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": _charts(sweep, _shown_axes(axes), limits),
        "compareRunSections": [
            _section(curves, "Convergence", columns=2),
            _section(parallel, "Hyperparameters", columns=1),
            _section(comparison, "Comparison", columns=2),
            # Charts that MLflow adds by itself, losses among them, find their place by the metrics' prefix.
            *(_section(_share_key(sweep, prefix), prefix, columns=2, folded=True) for prefix in _PREFIXES),
        ],
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "groupBy": grouping if group else None,
        "groupsExpanded": {},
        "autoRefreshEnabled": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


def _shown_axes(axes: Sequence[str]) -> list[str]:
    """The parallel axes: of a learning rate and its logarithm the latter, which spreads."""
    logarithm = "optim.log10_lr" in axes
    return [axis for axis in axes if not (logarithm and axis == "optim.lr")][:_AXES]


def _sections(sweep: str) -> list[str]:
    """Keys of the parts of the page."""
    return [_share_key(sweep, part) for part in ("curves", "parallel", "comparison")]


def _section(key: str, name: str, columns: int, *, folded: bool = False) -> dict[str, object]:
    """A headed part of the page with so many charts in a row."""
    flags = {"display": not folded, "isReordered": False, "deleted": False, "isGenerated": False}
    return {"uuid": key, "name": name, "columns": columns, **flags}


def _charts(sweep: str, axes: list[str], limits: tuple[float, float] | None) -> list[dict[str, object]]:
    """Curves over steps and time, all hyperparameters at once, the learning rate's effect, ELBO and k-hat.

    No losses: those of different divergences live on different scales.
    """
    curves, parallel, comparison = _sections(sweep)
    lines = [
        _line(CURVE, "step", "ELBO over steps", limits),
        _line(CURVE, "time-relative", "ELBO over wall time", limits),
    ]
    learning_rate = {"key": "optim.log10_lr", "type": "PARAM"}
    others: list[dict[str, object]] = [
        {
            "type": "PARALLEL",
            "selectedParams": axes,
            "selectedMetrics": [OBJECTIVE],
            "showAllRuns": True,
            "displayName": "Hyperparameters and the final ELBO",
        },
        {
            "type": "SCATTER",
            "xaxis": learning_rate,
            "yaxis": {"key": OBJECTIVE, "type": "METRIC"},
            "displayName": "Learning rate and the final ELBO",
        },
        {
            "type": "SCATTER",
            "xaxis": {"key": OBJECTIVE, "type": "METRIC"},
            "yaxis": {"key": "final/khat", "type": "METRIC"},
            "displayName": "Final ELBO and k-hat",
        },
    ]
    placed = [(chart, curves) for chart in lines]
    placed += zip(others, (parallel, comparison, comparison), strict=True)
    flags = {"runsCountToCompare": 30, "deleted": False, "isGenerated": False}
    return [
        {"uuid": _share_key(sweep, f"chart {place}"), "metricSectionId": section, **flags, **chart}
        for place, (chart, section) in enumerate(placed)
    ]


def _line(metric: str, axis: str, title: str, limits: tuple[float, float] | None) -> dict[str, object]:
    """A chart of one metric's curves."""
    span = dict(zip(("yMin", "yMax"), limits or (), strict=False))
    return {
        "type": "LINE",
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": axis,
        "useGlobalXaxisKey": axis == "step",
        "lineSmoothness": 0,
        "xAxisScaleType": "log" if axis == "step" else "linear",  # as the points are spaced
        "scaleType": "linear",
        "range": span,
        # Leaves out a tenth of every curve, its best points among them: only where no range keeps the first steps out.
        "ignoreOutliers": not span,
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "displayName": title,
    }
