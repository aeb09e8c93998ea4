"""Tables of the benchmarks, as text and as Parquet, and the parsers of commands that write them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def parser_of(text: str | None) -> argparse.ArgumentParser:
    """The parser of a command that writes one table, `--out`; `text` is its module's."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", help="Parquet file for the table (needs pandas)")
    return parser


def text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """An aligned table of these columns."""
    cells = [[_cell(row[name]) for name in columns] for row in rows]
    widths = [max(len(line[k]) for line in [list(columns), *cells]) for k in range(len(columns))]
    lines = [
        "  ".join(
            c.ljust(w) if k < 2 else c.rjust(w) for k, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in [list(columns), *cells]
    ]
    return "\n".join(line.rstrip() for line in lines)


def tell(rows: Sequence[Mapping[str, Any]], new: int, columns: Sequence[str]) -> None:
    """Print the last `new` rows as they come, under a heading if they are the first."""
    lines = text(rows, columns).split("\n")
    print("\n".join(lines if new == len(rows) else lines[-new:]), flush=True)


def write(rows: Sequence[Mapping[str, Any]], path: str | None) -> None:
    """The rows as Parquet, if a path was given."""
    if path is not None:
        import pandas as pd  # not at the top: on a bare machine a table is printed without it

        Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(list(rows)).to_parquet(path)
        print(f"{len(rows)} rows in {path}")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        if math.isnan(value):
            return "-"
        return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
