"""When compiling a step pays: what `auto` expects of a program, beside what is measured.

    python -m benchmarks.compile_pays                  # 21 programs, a quarter of an hour and more
    python -m benchmarks.compile_pays --models german_credit --out pays.parquet

One core. `eager_us` and `compiled_us` are CPU time of a step of the whole pack, medians of slices in turns, and
`expected_us` what `auto` takes an eager step for. `compile_s` is CPU time of compiling into an empty cache, where
something was compiled before, and `expected_s` what `auto` expects. `pays_at` is the number of steps from which on
compiling is the quicker way, and `auto_at` the number from which on `auto` compiles.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterator
from typing import Any

from benchmarks.models.table import CASES, GUIDES, MAX_NUMBERS
from benchmarks.sides.side import Job
from benchmarks.single_core import settle
from benchmarks.slices import Slices, interleave, steps_of_a_slice
from benchmarks.tables import parser_of, tell, write

SHOWN = (
    "model", "guide", "C", "S", "nodes", "eager_us", "expected_us", "compiled_us", "compile_s", "expected_s", "pays_at",
    "auto_at",
)  # fmt: skip
SIZES = ((64, 1), (64, 8))
# Of the one model, sizes that differ much.
MORE = {"german_credit": ((1, 1), (256, 1), (256, 8))}
REPEATS, SLICE_SECONDS = 7, 0.2


def main() -> None:
    """Measure every program and print the table."""
    arguments = _parsed()
    core = settle(None)
    print(f"core {core}, load average {os.getloadavg()[0]:.1f}")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.update(VI_DIST_CACHE=scratch, TORCHINDUCTOR_CACHE_DIR=os.path.join(scratch, "inductor"))
        _compile_something()
        for job in _jobs(arguments.models.split(",")):
            rows.append(_measured(job))
            tell(rows, 1, SHOWN)
    write(rows, arguments.out)


def _parsed() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--models", default=",".join(CASES), help=f"of {','.join(CASES)}")
    return parser.parse_args()


def _jobs(models: list[str]) -> Iterator[Job]:
    for model in models:
        for guide in GUIDES:
            for width, samples in (*SIZES, *(MORE.get(model, ()) if guide == "mean_field" else ())):
                if width * samples * CASES[model].rows <= MAX_NUMBERS:
                    yield Job(CASES[model], guide, width, samples)


def _compile_something() -> None:
    """What a machine does once for all programs: find out its vector instructions, compile headers."""
    import torch

    from vi_dist.vi.compile import compile_graph
    from vi_dist.vi.graph import trace

    x = torch.ones(3)
    compile_graph(trace(lambda x: (x.exp(),), x), (x,))


def _measured(job: Job) -> dict[str, Any]:
    """One program: its graph's expectations, its compilation, and both ways of stepping it in turns."""
    from benchmarks.sides.packed import Packed
    from benchmarks.sides.programs import program
    from vi_dist.vi.compile import compiling_seconds, eager_seconds, steps_that_pay

    graph = program(job, "reparam").graph()
    assert graph is not None, "a model of the table is flat"
    eager = Packed(job, compiled=False)
    eager.advance(16)
    began = _cpu_seconds()
    compiled = Packed(job, compiled=True)
    compiling = _cpu_seconds() - began
    sides = [Slices(side, steps_of_a_slice(side, SLICE_SECONDS)) for side in (eager, compiled)]
    interleave(sides, REPEATS, 60.0)
    slow, quick = (statistics.median(side.cpu) for side in sides)
    return {
        "model": job.case.name,
        "guide": job.guide,
        "C": job.width,
        "S": job.samples,
        "nodes": len(graph.graph.nodes),
        "eager_us": 1e6 * slow,
        "expected_us": 1e6 * eager_seconds(graph),
        "compiled_us": 1e6 * quick,
        "compile_s": compiling,
        "expected_s": compiling_seconds(graph),
        "pays_at": round(compiling / (slow - quick)) if slow > quick else float("nan"),
        "auto_at": steps_that_pay(graph),
        "load": os.getloadavg()[0],
    }


def _cpu_seconds() -> float:
    """CPU time of this process and of the children it has waited for."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main()
