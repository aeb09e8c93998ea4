"""Configuration-steps per second of a sweep beside one fit at a time, and where the sweep's wall time goes.

    python -m benchmarks.sweep_shares
    python -m benchmarks.sweep_shares --configurations 64 --steps 500 --executor inline

Both sides run the same configurations' model, guides, steps and samples on the same machine, one after the other; a fit
at a time is `Experiment.fit` for the first few configurations, the median of their times taken for all.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from vi_dist import Experiment, SweepResult

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("start_up", "stepping", "evaluation", "tracking", "other")


def main() -> None:
    """Run both sides and print two tables."""
    arguments = _parsed()
    with tempfile.TemporaryDirectory() as scratch:
        overrides: dict[str, Any] = {"output_dir": scratch, "executor": arguments.executor}
        if arguments.configurations:
            overrides["configurations"] = arguments.configurations
        if arguments.steps:
            overrides["steps"] = arguments.steps
        experiment = Experiment.from_spec(arguments.spec, overrides)
        began = time.perf_counter()
        result = experiment.sweep()
        wall = time.perf_counter() - began
        _report(experiment, result, wall, arguments.fits)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spec", default=str(ROOT / "experiments/german_credit/sweep.yaml"))
    parser.add_argument("--configurations", type=int, help="how many; default: the spec's")
    parser.add_argument("--steps", type=int, help="steps of each; default: the spec's")
    parser.add_argument("--executor", default="ray", choices=("ray", "inline"))
    parser.add_argument("--fits", type=int, default=3, help="fits made one at a time")
    return parser.parse_args()


def _report(experiment: Experiment, result: SweepResult, wall: float, fits: int) -> None:
    frame = result.dataframe()
    total = int(frame["steps"].sum())
    seconds, taken = [], []
    for key in frame["key"].head(fits):
        fit = result.get(key)
        chosen = {k: v for k, v in fit.configuration.items() if k not in ("name", "dtype")}
        began = time.perf_counter()
        single = experiment.fit(**chosen)
        seconds.append(time.perf_counter() - began)
        taken.append(single.steps)
    alone = sum(taken) / sum(seconds)
    timings = result.timings
    stepping = total / timings["stepping"] if timings["stepping"] else float("nan")
    print(
        f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {len(frame)} configurations, {total} steps"
    )
    print(f"{'':34}{'configuration-steps/s':>22}{'ratio':>8}")
    for label, rate in (
        (f"one fit at a time (median {statistics.median(seconds):.1f} s)", alone),
        ("sweep, command to leaderboard", total / wall),
        ("sweep, stepping alone, per worker", stepping),
    ):
        print(f"{label:34}{rate:>22,.0f}{rate / alone:>8.1f}")
    print()
    print(f"{'part':14}{'seconds':>10}{'share':>8}")
    for part in PARTS:
        print(f"{part:14}{timings[part]:>10.1f}{timings[part] / timings['wall']:>8.0%}")
    print(f"{'wall':14}{timings['wall']:>10.1f}")


if __name__ == "__main__":
    main()
