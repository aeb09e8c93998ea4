"""What shards cost and save: ``python -m benchmarks.shards [--rows N ...] [--columns C] [--samples S]``.

Regressions of the flights' form (22 coefficients and a scale; rows are drawn) on one, two and four shards, each in a
process of its own with one thread, on real gloo groups. Beside the step's time stand the time of the same processes
without communication (each steps by its own rows alone), the share of reduction and waiting, and every process's peak
memory above that of a process with no rows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

COEFFICIENTS = 22
WARM_UP = 3


def measured(arguments: argparse.Namespace, rank: int) -> dict[str, float]:
    """One process: its shard's steps, with the others and alone, in turns."""
    os.environ["MKL_CBWR"] = "AUTO"
    import torch

    from vi_dist.cluster.process_group import ProcessGroup
    from vi_dist.vi.summed_joint import total

    torch.set_num_threads(1)
    group = made_group(arguments, rank)
    together = ProcessGroup(rank, arguments.shards, arguments.address, torch.device("cpu"))
    group.reduce = together.reduce
    states = group.start()
    group.compile(arguments.compile, 10**6)
    states, _ = group.advance(states, WARM_UP)
    found: dict[str, list[float]] = {"with": [], "alone": [], "compute": [], "reduce": []}
    for _ in range(arguments.repeats):
        group.times.compute = group.times.reduce = 0.0
        started = time.perf_counter()
        states, _ = group.advance(states, arguments.steps)
        found["with"].append((time.perf_counter() - started) / arguments.steps)
        found["compute"].append(group.times.compute / arguments.steps)
        found["reduce"].append(group.times.reduce / arguments.steps)
        # Without communication, at the same time as the other processes: cores and memory are shared alike.
        together.reduce([torch.zeros(1)])
        group.reduce = total
        started = time.perf_counter()
        group.advance(states, arguments.steps)
        found["alone"].append((time.perf_counter() - started) / arguments.steps)
        group.reduce = together.reduce
        together.reduce([torch.zeros(1)])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {name: statistics.median(values) for name, values in found.items()} | {"peak": float(peak)}


def made_group(arguments: argparse.Namespace, rank: int) -> Any:
    """The group of this process: one shard, its rows drawn here."""
    import torch
    from torch.distributions import Distribution, HalfNormal, Normal

    from vi_dist import Model, random_variable
    from vi_dist.vi.columns import Column
    from vi_dist.vi.context import model_context
    from vi_dist.vi.density import Density
    from vi_dist.vi.divergences import kl_reverse
    from vi_dist.vi.estimators import reparam
    from vi_dist.vi.guides.table import GUIDES
    from vi_dist.vi.layout import make_layout
    from vi_dist.vi.optimizers import OPTIMIZERS
    from vi_dist.vi.pack import PackProgram
    from vi_dist.vi.shards import ShardGroup
    from vi_dist.vi.trace import trace_joint

    rows = arguments.rows // arguments.shards
    generator = torch.Generator().manual_seed(rank)
    x = torch.randn(rows, COEFFICIENTS, generator=generator)
    seen = x.sum(1) + torch.randn(rows, generator=generator)

    @random_variable
    def b() -> Distribution:
        return Normal(torch.zeros(COEFFICIENTS), 1.0)

    @random_variable
    def sigma() -> Distribution:
        return HalfNormal(torch.tensor(1.0))

    @random_variable
    def y() -> Distribution:
        return Normal(x @ b(), sigma())

    with model_context(torch.float32):
        model = Model([b(), sigma()], {y(): seen})
        layout = make_layout(model, sharded=True)
    guide = GUIDES[arguments.guide].make(layout.noise)
    defaults = {name: argument.default for name, argument in OPTIMIZERS["adam"].arguments.items()}
    columns = [Column(seed, 10**9, 1e-3, kl_reverse, reparam, defaults) for seed in range(arguments.columns)]
    joint = trace_joint(Density(model, layout, owner=rank == 0), dtype=torch.float32)
    program = PackProgram(
        joint,
        layout,
        guide,
        OPTIMIZERS["adam"].make(),
        arguments.samples,
        columns,
        dtype=torch.float32,
        ids=torch.arange(rows),
    )
    return ShardGroup([program])


def run(arguments: argparse.Namespace, shards: int, rows: int) -> list[dict[str, float]]:
    """What each of the processes measured."""
    from vi_dist.cluster.process_group import free_address

    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "benchmarks.shards",
        "--shards",
        str(shards),
        "--one-of",
        str(rows),
    ]
    for name in ("columns", "samples", "steps", "repeats", "guide", "compile"):
        command += [f"--{name}", str(getattr(arguments, name))]
    command += ["--address", free_address()]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, str(rank)) for rank in range(shards)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        processes = [
            subprocess.Popen([*command, "--rank", str(rank), "--result", str(file)], env=environment)
            for rank, file in enumerate(files)
        ]
        for process in processes:
            if process.wait() != 0:
                raise SystemExit("a shard's process failed")
        return [json.loads(file.read_text()) for file in files]


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 200_000, 400_000])
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--guide", default="full_rank")
    parser.add_argument("--compile", default="always", choices=("always", "never"))
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--out", type=Path, help="Parquet file")
    for name in ("--shards", "--rank", "--one-of"):
        parser.add_argument(name, type=int, help=argparse.SUPPRESS)
    for name in ("--address", "--result"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank is not None:
        arguments.rows = arguments.one_of
        Path(arguments.result).write_text(json.dumps(measured(arguments, arguments.rank)))
        return
    table(arguments)


def table(arguments: argparse.Namespace) -> None:
    """Measure every number of rows on every number of shards."""
    import pandas as pd

    empty = max(one["peak"] for one in run(arguments, 1, 1))
    lines = []
    for rows in arguments.rows:
        first: dict[str, float] = {}
        for shards in arguments.counts:
            found = run(arguments, shards, rows)
            step, alone = (max(one[name] for one in found) for name in ("with", "alone"))
            first = first or {"step": step, "alone": alone}
            waited = statistics.mean(one["reduce"] / one["with"] for one in found)
            lines.append(
                {
                    "rows": rows,
                    "shards": shards,
                    "C*S": arguments.columns * arguments.samples,
                    "step ms": 1e3 * step,
                    "speed-up": first["step"] / step,
                    "without communication": first["alone"] / alone,
                    "of it reached": first["step"] / step / (first["alone"] / alone),
                    "reduction and waiting": waited,
                    "memory MiB": (max(one["peak"] for one in found) - empty) / 2**20,
                }
            )
            print(
                pd.DataFrame(lines[-1:]).round(3).to_string(index=False, header=len(lines) == 1), flush=True
            )
    if arguments.out:
        pd.DataFrame(lines).to_parquet(arguments.out)


if __name__ == "__main__":
    main()
