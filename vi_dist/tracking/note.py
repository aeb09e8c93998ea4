"""The Markdown on a sweep's page in MLflow: a leaderboard whose rows lead to their runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_LINK = re.compile(r"\[([^\]]*)\]\(run:([^)]*)\)")


def leaderboard_note(
    rows: Sequence[Mapping[str, object]], columns: Sequence[str], heading: str = "", top: int = 20
) -> str:
    """A table of the first ``top`` rows; ``name`` links to the run of the row's ``key``.

    >>> print(leaderboard_note([{"rank": 1, "name": "a", "key": "k", "elbo": -1.23456789}],
    ...                        ["rank", "name", "elbo"], "Best first."))
    Best first.
    <BLANKLINE>
    | rank | name | elbo |
    |---|---|---|
    | 1 | [a](run:k) | -1.23457 |
    """
    lines = [heading, ""] if heading else []
    lines += [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(_cell(row, column) for column in columns)} |" for row in rows[:top]]
    if len(rows) > top:
        lines += ["", f"... and {len(rows) - top} more."]
    return "\n".join(lines)


def link_runs(text: str, experiment_id: str, run_ids: Mapping[str, str], longest: int) -> str:
    """The text with its ``run:<key>`` links resolved, cut after the last whole line that fits.

    >>> link_runs("[a](run:k), [b](run:x)", "1", {"k": "f00"}, 8000)
    '[a](#/experiments/1/runs/f00), b'
    """

    def resolve(link: re.Match[str]) -> str:
        run_id = run_ids.get(link[2])
        return f"[{link[1]}](#/experiments/{experiment_id}/runs/{run_id})" if run_id else link[1]

    text = _LINK.sub(resolve, text)
    if len(text) <= longest:
        return text
    ending = "\n\n..."
    return text[: text.rfind("\n", 0, longest - len(ending)) + 1].rstrip("\n") + ending


def _cell(row: Mapping[str, object], column: str) -> str:
    """One cell, with nothing in it that would end it."""
    value = row.get(column, "")
    text = f"{value:.6g}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")
    return f"[{text}](run:{row['key']})" if column == "name" and "key" in row else text
