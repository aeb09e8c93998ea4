"""The verdict's thresholds, tuned on all posteriors but one and tried on the one left out.

    python -m benchmarks.trial                # writes configurations.parquet
    python -m benchmarks.trial_thresholds vi-dist-out/trial/configurations.parquet

Every configuration of every sweep is judged as if it had won: by k-hat against the threshold of its number of draws,
by the gap between importance-weighted bound and ELBO, and by its distance to the next best. Of the thresholds that call
no configuration trustworthy whose means or standard deviations are off by more than 0.2 (RMS, in reference standard
deviations), those that call most posteriors' winners trustworthy are taken, then those that call most configurations
so; the strictest of equals.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass

import pandas as pd

from benchmarks.tables import text
from benchmarks.trial_marks import OFF
from vi_dist.evaluation import verdict
from vi_dist.evaluation.pareto import khat_threshold

GAPS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
AGREEMENTS = (0.03, 0.05, 0.1, 0.15, 0.2, 0.3)
SMALL_GAPS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1)


@dataclass(frozen=True)
class Thresholds:
    """What a trustworthy configuration may have at most; below `small_gap` k-hat may be anything."""

    gap: float
    agreement: float
    small_gap: float

    def trusts(self, frame: pd.DataFrame) -> pd.Series:
        """Which rows are called trustworthy."""
        gap = frame["iw_elbo"] - frame["elbo"]
        khat = frame["samples"].map(khat_threshold)
        near = ~(frame["apart"] > self.agreement)  # nothing came close: nothing disagrees
        return ((frame["khat"] <= khat) & (gap <= self.gap) | (gap <= self.small_gap)) & near


def best(frame: pd.DataFrame) -> Thresholds:
    """The thresholds that the rows ask for."""
    off = frame[["mu", "sd"]].max(axis=1) > OFF

    def worth(one: Thresholds) -> tuple[float, ...]:
        trusted = one.trusts(frame)
        strict = (-one.small_gap, -one.gap, -one.agreement)
        if (trusted & off).any():
            return (-1.0, 0.0, *strict)
        return (float((trusted & frame["winner"]).sum()), float(trusted.mean()), *strict)

    grid = itertools.product(GAPS, AGREEMENTS, SMALL_GAPS)
    return max((Thresholds(*values) for values in grid), key=worth)


def main() -> None:
    """Print what each posterior left out would have got, and the thresholds of all together."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configurations", help="the table that the trial writes")
    frame = pd.read_parquet(parser.parse_args().configurations)
    rows = []
    for name in frame["posterior"].unique():
        inside, outside = frame[frame["posterior"] != name], frame[frame["posterior"] == name]
        rows.append({"left out": name, **_tried(best(inside), outside)})
    everything = best(frame)
    rows.append({"left out": "none", **_tried(everything, frame)})
    here = Thresholds(verdict.GOOD_GAP, verdict.GOOD_AGREEMENT, verdict.SMALL_GAP)
    rows.append({"left out": "as committed", **_tried(here, frame)})
    print(text(rows, list(rows[0])))


def _tried(one: Thresholds, frame: pd.DataFrame) -> dict[str, object]:
    trusted = one.trusts(frame)
    error = frame[["mu", "sd"]].max(axis=1)
    return {
        **vars(one),
        "trusted": f"{int(trusted.sum())} of {len(frame)}",
        "of them off": int((trusted & (error > OFF)).sum()),
        "worst of them": float(error[trusted].max()) if trusted.any() else float("nan"),
        "winners trusted": f"{int((trusted & frame['winner']).sum())} of {int(frame['winner'].sum())}",
    }


if __name__ == "__main__":
    main()
