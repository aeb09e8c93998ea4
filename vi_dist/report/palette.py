"""Colours that hold on white and on near-black, and figures as SVG that take them from the page they stand in."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

# Name of a colour: on a light page (and in plain matplotlib figures), on a dark one.
_COLOURS: Mapping[str, tuple[str, str]] = {
    "ink": ("#22272e", "#e3e7ec"),
    "muted": ("#5b6672", "#9aa6b2"),
    "rule": ("#d5dae0", "#3a424c"),
    "faint": ("#b3bcc6", "#58626e"),
    "page": ("#fdfdfe", "#14181d"),
    "good": ("#1d7a44", "#63c98b"),
    "warn": ("#a15c00", "#e8a94a"),
    "bad": ("#b3261e", "#f2857d"),
    "series0": ("#2160b5", "#77aef5"),
    "series1": ("#c4470f", "#f59560"),
    "series2": ("#17803f", "#5fc784"),
    "series3": ("#873fa6", "#cd97ea"),
    "series4": ("#946300", "#dfb24a"),
    "series5": ("#0d7286", "#55c5da"),
    "series6": ("#b51a5f", "#f47fb3"),
    "series7": ("#4d5866", "#b9c3ce"),
}
INK, MUTED, RULE, FAINT = (_COLOURS[name][0] for name in ("ink", "muted", "rule", "faint"))
SERIES = tuple(light for name, (light, _) in _COLOURS.items() if name.startswith("series"))
"""One colour for each thing that is compared, told apart by those who see few colours too."""

_SETTINGS: Any = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in this module's style; matplotlib's own settings are as before afterwards."""
    with mpl.rc_context(_SETTINGS):
        yield


def colour(place: int) -> str:
    """The colour of the n-th series; after eight they come again.

    >>> colour(0) == colour(8) != colour(1)
    True
    """
    return SERIES[place % len(SERIES)]


def css() -> str:
    """The colours as CSS variables, the dark ones where the reader prefers dark and the paper is not white."""
    light = "".join(f"--{name}:{pair[0]};" for name, pair in _COLOURS.items())
    dark = "".join(f"--{name}:{pair[1]};" for name, pair in _COLOURS.items())
    return (
        f":root{{color-scheme:light dark;{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    )


def svg(figure: Figure, description: str) -> str:
    """The figure as inline SVG with live text, whose colours are the page's CSS variables.

    Args:
        figure: drawn in `house_style`.
        description: what it shows, for those who do not see it.
    """
    buffer = io.StringIO()
    salted: Any = {**_SETTINGS, "svg.hashsalt": description}
    with mpl.rc_context(salted):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    # Several figures share one page: numbered ids would clash. Those of clip paths and markers are hashes.
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    # A hundredth of a point is enough; what stands between tags is text and stays.
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), text)
    for name, (light, _) in _COLOURS.items():
        text = text.replace(light, f"var(--{name})")
    label = html.escape(description, quote=True)
    return re.sub(
        r'<svg ([^>]*?)width="[^"]*"', rf'<svg role="img" aria-label="{label}" \1', text, count=1
    ).replace(' height="', ' data-height="', 1)
