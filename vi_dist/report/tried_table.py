"""Which guides and divergences a sweep compared, and which it did not."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import pandas as pd

from vi_dist.report.contenders import ranked
from vi_dist.report.findings import Findings
from vi_dist.report.leaderboard import STATUSES, objective_of
from vi_dist.vi.divergences import DIVERGENCES
from vi_dist.vi.guides.table import GUIDES

NOT_TRIED = "not tried"


def tried(findings: Findings) -> pd.DataFrame:
    """What a sweep knows of each guide (rows) with each divergence (columns), as text.

    The best value that ranks, and of how many configurations it is the best; or how they ended, or `NOT_TRIED`.
    """
    pairs = findings.choices[["guide", "divergence"]]
    status = findings.frame.set_index("key")["status"]
    values = ranked(findings.frame).set_index("key")[objective_of(findings.frame)]
    guides, divergences = (list(dict.fromkeys(pairs[name])) for name in pairs)
    cells = pd.DataFrame(NOT_TRIED, index=guides, columns=divergences)
    for (guide, divergence), members in pairs.groupby(["guide", "divergence"]):
        found = values.reindex(members.index).dropna()
        ended = status[members.index].value_counts()
        told = ", ".join(f"{ended[name]} {name}" for name in STATUSES if name in ended)
        cells.loc[guide, divergence] = f"{found.max():.3f} ({len(members)})" if len(found) else told
    return cells


def tried_table(findings: Findings) -> str:
    """The table as HTML, and a sentence with what the sweep had none of."""
    cells = tried(findings)
    head = "".join(f"<th>{escape(str(name))}</th>" for name in cells)
    rows = "".join(_row(str(guide), texts) for guide, texts in zip(cells.index, cells.values, strict=True))
    table = f'<table><thead><tr><th class="text">guide</th>{head}</tr></thead><tbody>{rows}</tbody></table>'
    left_out = (
        f"Not in this sweep: the guides {_others(GUIDES, cells.index)}; the divergences "
        f"{_others(DIVERGENCES, cells.columns)}."
    )
    return f'<div class="wide">{table}</div><p class="muted">{escape(left_out)}</p>'


def _row(guide: str, texts: Iterable[str]) -> str:
    cells = "".join(f"<td>{escape(text)}</td>" for text in texts)
    return f'<tr><td class="text">{escape(guide)}</td>{cells}</tr>'


def _others(table: Iterable[str], found: Iterable[str]) -> str:
    """Entries of a table that were not chosen with any arguments."""
    names = {text.partition("(")[0] for text in found}
    return ", ".join(name for name in table if name not in names) or "none"
