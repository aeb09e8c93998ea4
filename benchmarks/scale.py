"""What a sweep costs beside its steps, from 256 configurations to 10,000, and how many workers a driver can serve.

    python -m benchmarks.scale                     # 256, 1,024 and 4,096 configurations; 64, 512 and 2,048 workers
    python -m benchmarks.scale --long              # 10,000 configurations too
    python -m benchmarks.scale --parts sweeps --configurations 256,1024

The first table is eight schools inline, 50 steps a configuration, each sweep in a process of its own. `driver_ms` is
processor time per configuration of the sweep's process without the worker's calls (`worker_s`), `writer_ms` that of the
process that writes to MLflow; `store_kb` is mlflow.db per configuration, and `spool_kb`, `curves_kb` the same of what
their names say. In the second table workers answer at once and compute nothing (`benchmarks.ready_made`): `chunks_s`
are chunks per second of the driver's processor time, from the first call to the last, with journal, tables and records.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables import parser_of, tell, write

ROOT = Path(__file__).resolve().parent.parent
COUNTS, LONG = (256, 1024, 4096), 10_000
WORKERS = (64, 512, 2048)
STEPS = 50
SWEEPS = (
    "configurations",
    "wall_s",
    "worker_s",
    "driver_ms",
    "writer_ms",
    "peak_mb",
    "store_kb",
    "spool_kb",
    "curves_kb",
    "report_mb",
)
DRIVERS = ("workers", "columns", "configurations", "chunks", "chunks_s", "driver_s", "peak_mb")


def main() -> None:
    """Measure every line in a process of its own and print the tables."""
    arguments = _parsed()
    if arguments.job:
        print(json.dumps(_measured(json.loads(arguments.job))))
        return
    rows: list[dict[str, Any]] = []
    parts = arguments.parts.split(",")
    if "sweeps" in parts:
        jobs = [{"configurations": count} for count in _counts(arguments)]
        rows += _table(jobs, SWEEPS)
    if "workers" in parts:
        jobs = [
            {"workers": int(workers), "columns": columns, "chunks": arguments.chunks}
            for columns in map(int, arguments.columns.split(","))
            for workers in arguments.workers.split(",")
        ]
        rows += _table(jobs, DRIVERS)
    write(rows, arguments.out)


def _parsed() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--parts", default="sweeps,workers")
    parser.add_argument("--configurations", default=",".join(map(str, COUNTS)))
    parser.add_argument("--long", action="store_true", help=f"{LONG} configurations too")
    parser.add_argument("--workers", default=",".join(map(str, WORKERS)))
    parser.add_argument("--columns", default="1,8,64", help="of a pack, in the second table")
    parser.add_argument("--chunks", type=int, default=8192, help="of a line of the second table, at least")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    return parser.parse_args()


def _counts(arguments: argparse.Namespace) -> list[int]:
    return [int(count) for count in arguments.configurations.split(",")] + [LONG] * arguments.long


def _table(jobs: Sequence[dict[str, int]], columns: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each job, printed as it comes."""
    rows: list[dict[str, Any]] = []
    for job in jobs:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.scale", "--job", json.dumps(job)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{job} failed:\n{done.stderr[-2000:]}")
        rows.append({**job, **json.loads(done.stdout.splitlines()[-1])})
        tell(rows, 1, columns)
    return rows


def _measured(job: dict[str, int]) -> dict[str, Any]:
    """One job in this process."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        measured = _sweep(job, Path(scratch)) if "workers" not in job else _driver(job, Path(scratch))
    return {**measured, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _sweep(job: dict[str, int], scratch: Path) -> dict[str, float]:
    """A whole sweep on a worker in this process."""
    from benchmarks.ready_made import TimedInlineExecutor

    count, executor = job["configurations"], TimedInlineExecutor()
    began, cpu = time.perf_counter(), time.process_time()
    directory = _run(scratch, executor, count, STEPS, "auto")
    own = time.process_time() - cpu - executor.seconds
    children = resource.getrusage(resource.RUSAGE_CHILDREN)

    def kb(*files: Path) -> float:
        return sum(file.stat().st_size for file in files) / 1000 / count

    return {
        "wall_s": time.perf_counter() - began,
        "worker_s": executor.seconds,
        "driver_ms": 1000 * own / count,
        "writer_ms": 1000 * (children.ru_utime + children.ru_stime) / count,
        "store_kb": kb(scratch / "mlflow.db"),
        "spool_kb": kb(directory / "spool" / "records.jsonl"),
        "curves_kb": kb(directory / "curves.parquet"),
        "plan_kb": kb(directory / "plan.json"),
        "leaderboard_kb": kb(directory / "leaderboard.parquet"),
        "report_mb": (directory / "report.html").stat().st_size / 1e6,
        "load": os.getloadavg()[0],
    }


def _driver(job: dict[str, int], scratch: Path) -> dict[str, float]:
    """A sweep on workers that compute nothing: a pack for each, and at least so many chunks in all."""
    from benchmarks.ready_made import CHUNK_STEPS, ReadyMadeExecutor

    workers, columns = job["workers"], job["columns"]
    count = workers * columns if columns < 64 else min(workers, 128) * columns
    packs = count // columns
    executor = ReadyMadeExecutor(workers)
    _run(scratch, executor, count, CHUNK_STEPS * max(4, job["chunks"] // packs), columns)
    return {
        "configurations": count,
        "chunks": executor.chunks,
        "chunks_s": executor.chunks / executor.seconds,
        "driver_s": executor.seconds,
        "load": os.getloadavg()[0],
    }


def _run(scratch: Path, executor: Any, count: int, steps: int, pack_size: int | str) -> Path:
    """A sweep of so many configurations of eight schools; returns its directory."""
    from benchmarks.models.eight_schools import build, data
    from vi_dist.api.sweeping import run_sweep
    from vi_dist.cluster.build_source import BuildSource
    from vi_dist.sweep.spec import make_spec

    spec = make_spec(
        {
            "name": "scale",
            "space": {
                "guide": ["mean_field"],
                "divergence": ["kl_reverse", "kl_forward"],
                "learning_rate": {"low": 0.001, "high": 0.1, "log": True},
                "seed": [0, 1, 2],
            },
            "search": "random",
            "configurations": count,
            "steps": steps,
            "compile": "never",
            "executor": "inline",
            "pack_size": pack_size,
            "evaluation": {"samples": 1024},
            "output_dir": str(scratch),
        }
    )
    return run_sweep(BuildSource(function=build), data(), spec, executor=executor).directory


if __name__ == "__main__":
    main()
