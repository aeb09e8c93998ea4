"""The leaderboard as an HTML table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from vi_dist.report.findings import Findings
from vi_dist.report.leaderboard import shown
from vi_dist.report.links import run_urls
from vi_dist.report.sweep_directory import LEADERBOARD

_TOP = 20
_MOST = 1000
"""Rows in all: with more of them the page would be too large to send by mail."""
_TEXTS = ("name", "status")
_HEADINGS = {"elbo": "ELBO", "elbo_se": "± se", "iw_elbo": "gap", "khat": "k-hat"}


def leaderboard_table(findings: Findings) -> str:
    """The first rows at once, others folded, down to the best thousand; names lead to their runs where MLflow has an
    address."""
    frame, columns = findings.frame, shown(findings.frame)
    # The importance-weighted bound as its distance from the ELBO, which is what one looks for.
    frame = frame.assign(iw_elbo=frame["iw_elbo"] - frame["elbo"])
    if findings.picked:
        frame = frame[frame["key"].isin([one.key for one in findings.contenders])]
    urls = run_urls(findings.directory)
    total, frame = len(frame), frame.head(_MOST)
    rows = [_row(row, columns, urls.get(str(row["key"]))) for row in frame.to_dict("records")]
    head = "".join(_heading(name) for name in columns)
    table = _table(head, rows[:_TOP])
    if len(rows) <= _TOP:
        return table
    folded = f"<details><summary>{len(rows) - _TOP} more</summary>{_table(head, rows[_TOP:])}</details>"
    if total == len(rows):
        return f"{table}{folded}"
    rest = (
        f"These are the best {len(rows)} of {total} configurations. All of them are in {LEADERBOARD}, beside this page "
        f"in the sweep's directory and with its run in MLflow; vi-dist leaderboard DIR --top {total} prints them."
    )
    return f'{table}{folded}<p class="muted">{rest}</p>'


def _heading(name: str) -> str:
    align = ' class="text"' if name in _TEXTS else ""
    return f"<th{align}>{_HEADINGS.get(name, name)}</th>"


def _row(row: dict[Any, Any], columns: Sequence[str], url: str | None) -> str:
    """A row; on hovering a status says its reason."""
    cells = []
    for name in columns:
        text = escape(_cell(name, row[name]))
        if name == "name":
            link = f'<a href="{escape(url, quote=True)}">{text}</a>' if url else text
            cells.append(f'<td class="text" title="{escape(str(row["key"]))}">{link}</td>')
        elif name == "status":
            cells.append(f'<td class="text" title="{escape(str(row["reason"]), quote=True)}">{text}</td>')
        else:
            cells.append(f"<td>{text}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _cell(name: str, value: Any) -> str:
    if isinstance(value, float):
        if math.isnan(value):
            return "–"
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        return f"{value:.2f}" if name in ("seconds", "khat") else f"{value:.3f}"
    return str(value)


def _table(head: str, rows: Sequence[str]) -> str:
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="wide"><table>{body}</table></div>'
