"""The peers at their defaults on the posteriors of the trial: how far off, and how long it took.

python -m benchmarks.trial_peers
python -m benchmarks.trial_peers --only kidiq wells --sides numpyro
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.tables import tell, text, write
from benchmarks.trial_reference import EXPERIMENTS, names, reference
from vi_dist.evaluation.moments import distance, moments

SIDES = ("numpyro", "pymc")
SHOWN = ("posterior", "side", "mu", "sd", "seconds", "fault")


def main() -> None:
    """Fit every posterior by every side and print one table, then the medians of each side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these experiments; default: all")
    parser.add_argument("--sides", nargs="+", default=SIDES, choices=SIDES)
    parser.add_argument("--table", metavar="FILE", help="write the rows as Parquet")
    arguments = parser.parse_args()
    run(arguments.only or names(), arguments.sides, arguments.table)


def run(posteriors: Sequence[str], sides: Sequence[str] = SIDES, table: str | None = None) -> None:
    """Print and write what the installed sides make of the posteriors."""
    rows: list[dict[str, Any]] = []
    for side in sides:
        if find_spec(side) is None:
            print(f"{side} is not installed: pip install -c constraints.txt -e '.[bench]'")
            continue
        for name in posteriors:
            new = list(_rows(side, name))
            rows += new
            tell(rows, len(new), SHOWN)
    print(f"\n{text(_medians(rows), ('side', 'posteriors', 'mu', 'sd', 'worst mu', 'seconds'))}\n")
    write(rows, table)


def _rows(side: str, name: str) -> list[dict[str, Any]]:
    module = import_module(
        f"benchmarks.trial_peers.{side}_side"
    )  # one side does without the other's packages
    with np.load(EXPERIMENTS / name / f"{name}.npz") as arrays:
        data: Mapping[str, Any] = dict(arrays)
    known, rows = reference(name), []
    for label, fit in module.fits(name, data):
        began, fault = time.perf_counter(), ""
        try:
            draws = fit()
            found = distance(moments(draws), known)
            mu, sd = found.mean, found.sd
        except Exception as error:  # a peer that fails on a posterior is a result
            mu, sd, fault = math.nan, math.nan, f"{type(error).__name__}: {str(error).splitlines()[0][:60]}"
        seconds = time.perf_counter() - began
        rows.append(
            {"posterior": name, "side": label, "mu": mu, "sd": sd, "seconds": seconds, "fault": fault}
        )
    return rows


def _medians(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for side in dict.fromkeys(row["side"] for row in rows):
        of = [row for row in rows if row["side"] == side]
        # A fit that failed counts as infinitely far off.
        mu, sd = ([math.inf if math.isnan(row[k]) else row[k] for row in of] for k in ("mu", "sd"))
        found.append(
            {
                "side": side,
                "posteriors": len(of),
                "mu": statistics.median(mu),
                "sd": statistics.median(sd),
                "worst mu": max(mu),
                "seconds": sum(row["seconds"] for row in of),
            }
        )
    return found


if __name__ == "__main__":
    main()
