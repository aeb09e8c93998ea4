"""The two pages that a sweep ends with, in a browser: MLflow's comparison and the report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from vi_dist import SweepResult
from vi_dist.report.sweep_directory import read_curves
from vi_dist.tracking.ui import serve
from vi_dist.tracking.views import CURVE, curve_limits

pytestmark = pytest.mark.slow

COMPARISON = """(() => {
  const curves = document.querySelectorAll('.scatterlayer .trace .lines path').length;
  const texts = [...document.querySelectorAll('svg text')].map(each => each.textContent);
  const axis = document.querySelector('.js-plotly-plot')?.layout?.yaxis;
  return curves >= 12 && texts.includes('final/elbo') ? {curves, texts, range: axis.range} : null;
})()"""
REPORT = """(() => {
  const figures = [...document.querySelectorAll('figure svg')];
  const style = getComputedStyle(document.body);
  return document.readyState === 'complete' ? {
    heading: document.querySelector('h1').innerText,
    rows: document.querySelector('table').querySelectorAll('tbody tr').length,
    widths: figures.map(each => each.getBoundingClientRect().width),
    heights: figures.map(each => each.getBoundingClientRect().height),
    curve: getComputedStyle(figures[0].querySelector('path[style*="--series0"]')).stroke,
    page: style.backgroundColor, ink: style.color, overflow: document.documentElement.scrollWidth > innerWidth,
    loaded: performance.getEntriesByType('resource').map(each => each.name),
  } : null;
})()"""


def _luminance(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)``, as WCAG 2 defines it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, from 1 to 21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_comparison_opens_with_curves_and_named_axes(chromium: Any, result: SweepResult) -> None:
    with serve(result.directory) as server:
        found = chromium.visit(server.url, COMPARISON, 120)
    assert found, "the page shows no curves"
    assert found["curves"] >= 12
    assert {"guide.family", "divergence", "optim.log10_lr", "final/elbo"} <= set(found["texts"])
    curves = read_curves(result.directory)
    ends = curves[curves["metric"] == CURVE].groupby("configuration")["value"].last()
    assert found["range"] == pytest.approx(curve_limits(ends)), "MLflow reads the range of a chart otherwise"


@pytest.mark.parametrize("dark", [False, True])
def test_the_report_renders_without_a_network_in_light_and_dark(
    chromium: Any, result: SweepResult, tmp_path: Path, dark: bool
) -> None:
    file = result.directory / "report.html"
    picture = tmp_path / "report.png"
    found = chromium.visit(file.as_uri(), REPORT, 60, dark=dark, picture=picture, size=(1000, 1400))
    assert found["heading"].startswith("toy") and found["rows"] == 12
    assert found["loaded"] == [] and not found["overflow"]
    assert len(found["widths"]) == 5
    assert min(found["widths"]) > 600 and min(found["heights"]) > 150
    assert (_luminance(found["page"]) < 0.1) == dark
    assert contrast(found["page"], found["ink"]) > 7
    assert contrast(found["page"], found["curve"]) > 3
    assert picture.stat().st_size > 20_000, "an empty picture"


def test_a_narrow_screen_needs_no_sideways_scrolling(chromium: Any, result: SweepResult) -> None:
    found = chromium.visit((result.directory / "report.html").as_uri(), REPORT, 60, size=(390, 800))
    assert not found["overflow"]
