"""How cost and memory of a compiled step grow with configurations, samples, rows and dimension.

    python -m benchmarks.growth                    # every axis, about ten minutes
    python -m benchmarks.growth --axes C,S --out growth.parquet

Every point is two processes on one core: the first compiles, the second loads what was compiled, steps and reports.
`us` is wall and `cpu_us` CPU time in microseconds per configuration and step, `peak_mb` the process's largest resident
memory, `step_mb` by how much stepping raised it over what loading had needed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.tables import parser_of, tell, write

ROOT = Path(__file__).resolve().parent.parent
SHOWN = ("axis", "guide", "C", "S", "rows", "d", "us", "cpu_us", "peak_mb", "step_mb")
REPEATS = 7
SLICE_SECONDS = 0.1
# (C, S, rows, d) of every point of an axis: the others stay at the middle point.
AXES: dict[str, list[tuple[int, int, int, int]]] = {
    "C": [(c, 1, 1000, 25) for c in (1, 8, 64, 256, 1024)],
    "S": [(64, s, 1000, 25) for s in (1, 4, 16, 64)],
    "rows": [(64, 1, rows, 25) for rows in (100, 1000, 10_000, 100_000)],
    "d": [(64, 1, 1000, d) for d in (5, 25, 100, 400)],
}
# The dimensions at which full rank, whose params grow with d squared, is timed too.
FULL_RANK = (5, 25, 100)


def main() -> None:
    """Time every point in a process of its own and print the table."""
    arguments = _parsed()
    if arguments.point:
        print(json.dumps(_measured(json.loads(arguments.point))))
        return
    rows: list[dict[str, Any]] = []
    for axis in arguments.axes.split(","):
        for guide, point in _points(axis):
            job = {"guide": guide, **dict(zip(("C", "S", "rows", "d"), point, strict=True))}
            _child({**job, "steps": 0})
            rows.append({"axis": axis, **job, **_child({**job, "steps": 1})})
            tell(rows, 1, SHOWN)
    write(rows, arguments.out)


def _parsed() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--axes", default=",".join(AXES), help=f"of {','.join(AXES)}")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    return parser.parse_args()


def _points(axis: str) -> list[tuple[str, tuple[int, int, int, int]]]:
    points = [("mean_field", point) for point in AXES[axis]]
    if axis == "d":
        points += [("full_rank", point) for point in AXES[axis] if point[3] in FULL_RANK]
    return points


def _child(job: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.growth", "--point", json.dumps(job)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the point {job} failed:\n{done.stderr[-2000:]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _measured(point: dict[str, Any]) -> dict[str, Any]:
    """One point in this process: compile or load, then step unless `steps` is 0."""
    from benchmarks.single_core import settle

    settle(None)
    from benchmarks.models.logistic import logistic
    from benchmarks.sides.packed import Packed
    from benchmarks.sides.side import Job
    from benchmarks.slices import Slices, steps_of_a_slice

    case = logistic(point["rows"], point["d"])
    side = Packed(Job(case, point["guide"], point["C"], point["S"]), compiled=True)
    before = _peak_mb()
    if not point["steps"]:
        return {}
    timed = Slices(side, steps_of_a_slice(side, SLICE_SECONDS))
    for _ in range(REPEATS):
        timed.take()
    return {
        "us": 1e6 * statistics.median(timed.wall) / point["C"],
        "cpu_us": 1e6 * statistics.median(timed.cpu) / point["C"],
        "peak_mb": _peak_mb(),
        "step_mb": _peak_mb() - before,
        "repeats": REPEATS,
        "load": os.getloadavg()[0],
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
