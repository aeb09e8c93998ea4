"""What a step costs on a GPU, against NumPyro and Pyro there, beside the time that memory traffic alone would take.

    python -m benchmarks.device
    python -m benchmarks.device --models radon_mn --columns 64,1024 --samples 10 --sides replayed,compiled
    python -m benchmarks.device --only-compile      # fill the cache; several at once, one for each model, say

Sides: `launched`, the flat graph's kernels one by one; `replayed`, the same recorded as a CUDA graph; `compiled`, the
step and its noise compiled, and recorded; `numpyro`, jit + scan + vmap; `pyro`, `SVI.step`, at one configuration. All
compute in float32, JAX's products too. Times are microseconds per configuration and step, medians over slices taken in
turns; `ahead` is a side's time over that of `compiled`. A row is void unless all its sides reach the same ELBO within
0.3.

`bound_us` is the least traffic of a step over the bandwidth measured on the spot by copying: the state read and
written once, the noise written and read, and for a model with a matrix of data the product's result written, read, and
its slope written and read. `times_bound` is how far a side is above it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from benchmarks.agreement import agrees, elbos
from benchmarks.models.table import CASES
from benchmarks.peers import require
from benchmarks.sides.numpyro_side import NumPyro
from benchmarks.sides.packed import Packed, starting_values
from benchmarks.sides.programs import built, program
from benchmarks.sides.pyro_side import Pyro
from benchmarks.sides.side import Job, Side
from benchmarks.slices import Slices, interleave, median_ratio
from benchmarks.tables import parser_of, tell, write

SIDES = ("launched", "replayed", "compiled", "numpyro", "pyro")
SHOWN = (
    "model", "guide", "C", "S", "side", "us", "bound_us", "times_bound", "ahead", "elbo", "void", "starting_s",
    "peak_mb",
)  # fmt: skip
# A slice of a side that launches kernels one by one is shorter by this factor.
LAUNCHED = 16
REPEATS = 9
FLOAT = 4
# A state's tensors of params: themselves, two buffers of Adam, the average, that of half-way.
PARAM_TENSORS = 5


def main() -> None:
    """Time every row and print the table."""
    arguments = _parsed()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device is here; --device cpu runs the same on the processor")
    sides = arguments.sides.split(",")
    require(*(package for package in ("pyro", "numpyro") if package in sides and not arguments.only_compile))
    torch.set_num_threads(1)
    # JAX must leave memory to others, and multiply in float32 as torch does, not in tf32.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    if arguments.only_compile:
        for job in _jobs(arguments):
            began = time.perf_counter()
            decision = program(job, "reparam").compile("always")
            seconds = time.perf_counter() - began
            print(
                f"{job.case.name} {job.guide} C={job.width} S={job.samples}: {seconds:.0f} s, {decision.reason}"
            )
        return
    bandwidth = _bandwidth(arguments.device)
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "the processor"
    print(f"{name}, {bandwidth / 1e9:,.0f} GB/s copying, torch {torch.__version__}", flush=True)
    rows: list[dict[str, Any]] = []
    reached: dict[tuple[str, str, int], dict[str, float]] = {}
    for job in _jobs(arguments):
        key = (job.case.name, job.guide, job.samples)
        if key not in reached:
            engines = [engine for engine in ("numpyro", "pyro") if engine in sides]
            reached[key] = elbos(job, ["vi_dist", *engines], "reparam") if engines else {}
        made = _rows(job, sides, reached[key], arguments, bandwidth)
        rows += made
        tell(rows, len(made), SHOWN)
    write(rows, arguments.out)


def _parsed() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--models", default="german_credit", help=f"of {','.join(CASES)}")
    parser.add_argument("--guides", default="mean_field")
    parser.add_argument("--columns", default="64,256,1024,4096", help="C, configurations of a pack")
    parser.add_argument("--samples", default="1", help="S, draws per step")
    parser.add_argument("--sides", default=",".join(SIDES), help=f"of {','.join(SIDES)}")
    parser.add_argument("--steps", type=int, default=1024, help="of one slice")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="for the slices of a row, from five repeats on"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only-compile", action="store_true", help="compile, time nothing")
    return parser.parse_args()


def _jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    for model in arguments.models.split(","):
        for guide in arguments.guides.split(","):
            for samples in map(int, arguments.samples.split(",")):
                for width in map(int, arguments.columns.split(",")):
                    yield Job(CASES[model], guide, width, samples, device=arguments.device)


def _rows(
    job: Job, names: Sequence[str], reached: dict[str, float], arguments: argparse.Namespace, bandwidth: float
) -> list[dict[str, Any]]:
    timed: dict[str, Slices] = {}
    starting: dict[str, float] = {}
    peak: dict[str, float] = {}
    for name in names:
        if name == "pyro" and job.width > 1:
            continue
        if arguments.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        began = time.perf_counter()
        side = _made(name, job)
        steps = arguments.steps // (LAUNCHED if name in ("launched", "pyro") else 1)
        side.advance(steps)
        starting[name] = time.perf_counter() - began
        timed[name] = Slices(side, steps)
        torch_side = arguments.device == "cuda" and name != "numpyro"
        peak[name] = (torch.cuda.max_memory_allocated() - before) / 2**20 if torch_side else float("nan")
    for one in timed.values():
        one.take()
    for one in timed.values():
        one.wall.clear()
        one.cpu.clear()
    interleave(list(timed.values()), REPEATS, arguments.seconds)
    base = timed.get("compiled", next(iter(timed.values())))
    bound = 1e6 * _bytes(job) / bandwidth / job.width
    rows = []
    for name, one in timed.items():
        us = 1e6 * statistics.median(one.wall) / job.width
        engine = name if name in ("numpyro", "pyro") else "vi_dist"
        rows.append(
            {
                "model": job.case.name,
                "guide": job.guide,
                "C": job.width,
                "S": job.samples,
                "side": name,
                "us": us,
                "bound_us": bound,
                "times_bound": us / bound,
                "ahead": median_ratio(one.wall, base.wall),
                "elbo": reached.get(engine, float("nan")),
                "void": "-" if engine not in reached else "no" if agrees(reached, engine) else "VOID",
                "starting_s": starting[name],
                "peak_mb": peak[name],
                "bandwidth": bandwidth,
                "repeats": len(one.wall),
                "steps": one.steps,
            }
        )
    return rows


def _made(name: str, job: Job) -> Side:
    if name in ("launched", "replayed", "compiled"):
        return Packed(job, compiled=name == "compiled", launched=name == "launched")
    start = starting_values(job.case)
    return NumPyro(job, start) if name == "numpyro" else Pyro(job, start)


def _bytes(job: Job) -> int:
    """The least traffic of one step of a pack."""
    _, layout = built(job.case, torch.float32, job.device)
    params = program(job, "reparam").first_params().shape[1]
    state = 2 * PARAM_TENSORS * params
    noise = 2 * job.samples * layout.size
    product = 4 * job.samples * job.case.rows
    return FLOAT * job.width * (state + noise + product)


def _bandwidth(device: str) -> float:
    """Bytes per second of copying: every byte is read and written."""
    source = torch.rand(2**28 if device == "cuda" else 2**24, device=device)
    target = torch.empty_like(source)
    seconds = min(_seconds(lambda: target.copy_(source), device) for _ in range(REPEATS))
    return 2 * source.numel() * FLOAT / seconds


def _seconds(call: Callable[[], object], device: str) -> float:
    """Wall seconds of a call, the device's queue empty before and after."""
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
