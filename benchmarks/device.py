"""What a step costs on an accelerator, beside the time that its memory traffic alone would take. Needs torch alone.

    python -m benchmarks.device
    python -m benchmarks.device --models radon_mn --widths 64,1024 --samples 10 --compile never

`bound_us` is the least traffic of a step over the bandwidth measured on the spot by copying: params and the optimizer's
buffers read and written once, the noise written and read, and for a model with a matrix of data the product's result
written, read, and its slope written and read. Times are microseconds per configuration and step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.models.table import CASES
from benchmarks.sides.programs import program
from benchmarks.sides.side import Job
from benchmarks.tables import tell, write

SHOWN = ("model", "guide", "C", "S", "step", "us", "bound_us", "times_bound", "peak_mb")
REPEATS = 9
FLOAT = 4


def main() -> None:
    """Time every width and print the table."""
    arguments = _parsed()
    device = arguments.device
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device is here; --device cpu runs the same on the processor")
    torch.set_num_threads(1)
    bandwidth = _bandwidth(device)
    name = torch.cuda.get_device_name() if device == "cuda" else "the processor"
    print(f"{name}, {bandwidth / 1e9:,.0f} GB/s copying")
    rows: list[dict[str, Any]] = []
    for model in arguments.models.split(","):
        for width in map(int, arguments.widths.split(",")):
            job = Job(CASES[model], arguments.guide, width, arguments.samples)
            rows.append(_row(job, arguments.compile, arguments.steps, device, bandwidth))
            tell(rows, 1, SHOWN)
    write(rows, arguments.out)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="german_credit", help=f"of {','.join(CASES)}")
    parser.add_argument("--guide", default="mean_field")
    parser.add_argument("--widths", default="64,256,1024,4096")
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--steps", type=int, default=64, help="of one timed call")
    parser.add_argument("--compile", default="always", choices=("always", "never"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", help="Parquet file for the table (needs pandas)")
    return parser.parse_args()


def _row(job: Job, mode: str, steps: int, device: str, bandwidth: float) -> dict[str, Any]:
    made = program(job, "reparam", device)
    decision = made.compile(mode)
    if mode == "always" and not decision.compiled:
        print(f"C={job.width}: {decision.reason}")
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    state = made.start()
    state, _ = made.advance(state, steps)
    seconds = statistics.median(_seconds(lambda: made.advance(state, steps), device) for _ in range(REPEATS))
    numbers = state.params.shape[1]
    moved = _bytes(job, numbers, made.layout.size)
    us, bound = 1e6 * seconds / steps / job.width, 1e6 * moved / bandwidth / job.width
    return {
        "model": job.case.name,
        "guide": job.guide,
        "C": job.width,
        "S": job.samples,
        "step": "compiled" if decision.compiled else "eager",
        "us": us,
        "bound_us": bound,
        "times_bound": us / bound,
        "peak_mb": torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else float("nan"),
        "bandwidth": bandwidth,
    }


def _bytes(job: Job, params: int, size: int) -> int:
    """The least traffic of one step of a pack."""
    state = 2 * 3 * params
    noise = 2 * job.samples * size
    product = 4 * job.samples * job.case.rows
    return FLOAT * job.width * (state + noise + product)


def _bandwidth(device: str) -> float:
    """Bytes per second of copying: every byte is read and written."""
    source = torch.zeros(2**28 if device == "cuda" else 2**24, device=device)
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
