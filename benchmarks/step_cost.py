"""What a step costs, against Pyro and NumPyro: same model, data, guide, Adam, samples; noise included.

    python -m benchmarks.step_cost                          # a few rows of every model, about ten minutes
    python -m benchmarks.step_cost --full --out cost.parquet
    python -m benchmarks.step_cost --models german_credit --guides mean_field --columns 64 --samples 1

One process on one core, one thread on every side, short slices of each side in turns. Times are microseconds per
configuration and step, medians over slices; `ahead` is the median over slices of this side's time over that of vi_dist
compiled: above 1, vi_dist is ahead. A row is void unless all its sides reach the same ELBO within 0.3.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.agreement import agrees, elbos
from benchmarks.models.table import CASES, GUIDES, MAX_NUMBERS
from benchmarks.peers import require
from benchmarks.sides.numpyro_side import NumPyro
from benchmarks.sides.packed import Packed, starting_values
from benchmarks.sides.pyro_side import Pyro
from benchmarks.sides.side import Job, Side
from benchmarks.single_core import settle
from benchmarks.slices import Slices, interleave, median_ratio
from benchmarks.tables import parser_of, tell, write

SIDES = ("eager", "compiled", "pyro", "numpyro")
COLUMNS, SAMPLES = (1, 16, 64, 256, 1024), (1, 10)
SHOWN = ("model", "guide", "C", "S", "side", "wall_us", "cpu_us", "ahead", "ahead_cpu", "elbo", "void")
# Seconds that a call takes apart from its samples; with the case's own estimate it sets the slices' length.
CALL_SECONDS = 5e-5
# Slices are whole multiples of the steps that a compiled program takes in one call, in packs of this width and wider.
CALL_STEPS = ((1, 64), (9, 16))


def main() -> None:
    """Time every row and print the table."""
    arguments = _parsed()
    sides = arguments.sides.split(",")
    require(*(package for package in ("pyro", "numpyro") if package in sides))
    core = settle(arguments.core)
    print(f"core {core}, load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    rows: list[dict[str, Any]] = []
    for (model, guide, samples), widths in _jobs(arguments):
        job = Job(CASES[model], guide, 1, samples)
        reached = elbos(job, _engines(sides, widths), arguments.estimator) if len(sides) > 1 else {}
        for width in widths:
            made = _row(Job(job.case, guide, width, samples), sides, reached, arguments)
            rows += made
            tell(rows, len(made), SHOWN)
    write(rows, arguments.out)


def _parsed() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--models", help=f"of {','.join(CASES)}")
    parser.add_argument("--guides", help=f"of {','.join(GUIDES)}")
    parser.add_argument("--columns", help="C, configurations of a pack, for example 1,64,256")
    parser.add_argument("--samples", help="S, draws per step, for example 1,10")
    parser.add_argument("--sides", default=",".join(SIDES), help=f"of {','.join(SIDES)}")
    parser.add_argument("--full", action="store_true", help="every row of the table: hours")
    parser.add_argument("--estimator", default="reparam", help="vi_dist's; reparam is what the peers compute")
    parser.add_argument("--repeats", type=int, default=31, help="slices of each side, at most")
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="for the slices of a row, from five repeats on"
    )
    parser.add_argument("--slice", type=float, default=0.04, help="seconds of one slice, roughly")
    parser.add_argument("--core", type=int, help="to run on; default: the last one")
    return parser.parse_args()


def _jobs(arguments: argparse.Namespace) -> Iterator[tuple[tuple[str, str, int], list[int]]]:
    """(model, guide, S) and the widths to time: what was asked for, all, or a few of everything."""
    chosen = arguments.models or arguments.guides or arguments.columns or arguments.samples
    models = arguments.models.split(",") if arguments.models else list(CASES)
    guides = arguments.guides.split(",") if arguments.guides else list(GUIDES)
    columns = [int(c) for c in arguments.columns.split(",")] if arguments.columns else list(COLUMNS)
    samples = [int(s) for s in arguments.samples.split(",")] if arguments.samples else list(SAMPLES)
    for model in models:
        for guide in guides:
            for s in samples:
                widths = columns if chosen or arguments.full else _quick(model, guide, s)
                small = [c for c in widths if c * s * CASES[model].rows <= MAX_NUMBERS]
                if small:
                    yield (model, guide, s), small
                if len(small) < len(widths):
                    print(f"{model} {guide} S={s}: C={sorted(set(widths) - set(small))} left out, too large")


def _quick(model: str, guide: str, samples: int) -> list[int]:
    if model == "german_credit" and guide == "mean_field":
        return [1, 64, 256] if samples == 1 else [64]
    if samples > 1 or (guide == "full_rank" and model != "german_credit"):
        return []
    return [4] if CASES[model].rows > 10_000 else [64]


def _engines(sides: list[str], widths: list[int]) -> list[str]:
    peers = [side for side in sides if side == "numpyro" or (side == "pyro" and 1 in widths)]
    return ["vi_dist", *peers] if peers else []


def _row(
    job: Job, sides: list[str], reached: dict[str, float], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """One job on every side: a line each."""
    steps = _slice_steps(job, arguments.slice)
    slices, starting = [], {}
    for name in sides:
        if name == "pyro" and job.width > 1:
            continue
        began = time.perf_counter()
        side = _made(name, job, arguments.estimator)
        side.advance(steps)
        starting[side.name] = time.perf_counter() - began
        slices.append(Slices(side, steps))
    for one in slices:
        one.side.advance(steps)
    interleave(slices, arguments.repeats, arguments.seconds)
    base = next((one for one in slices if one.side.name == "vi_dist compiled"), slices[0])
    return [_line(job, one, base, reached, starting[one.side.name]) for one in slices]


def _slice_steps(job: Job, seconds: float) -> int:
    """Steps of a slice of about so many seconds."""
    at_once = [steps for width, steps in CALL_STEPS if job.width >= width][-1]
    estimate = seconds / (CALL_SECONDS + job.width * job.samples * job.case.sample_seconds)
    return at_once * max(1, round(estimate / at_once))


def _made(name: str, job: Job, estimator: str) -> Side:
    if name in ("eager", "compiled"):
        return Packed(job, compiled=name == "compiled", estimator=estimator)
    start = starting_values(job.case)
    return NumPyro(job, start) if name == "numpyro" else Pyro(job, start)


def _line(job: Job, one: Slices, base: Slices, reached: dict[str, float], starting: float) -> dict[str, Any]:
    engine = one.side.name.split()[0]
    per = 1e6 / job.width
    return {
        "model": job.case.name,
        "guide": job.guide,
        "C": job.width,
        "S": job.samples,
        "side": one.side.name,
        "wall_us": statistics.median(one.wall) * per,
        "cpu_us": statistics.median(one.cpu) * per,
        "ahead": median_ratio(one.wall, base.wall),
        "ahead_cpu": median_ratio(one.cpu, base.cpu),
        "elbo": reached.get(engine, float("nan")),
        "void": "-" if engine not in reached else "no" if agrees(reached, engine) else "VOID",
        "rows": job.case.rows,
        "steps_per_slice": one.steps,
        "repeats": len(one.wall),
        "starting_s": starting,
        "load": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main()
