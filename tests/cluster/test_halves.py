"""A pack that memory cannot hold is stepped in halves, with the same result."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vi_dist.cluster.halves import halved, joined
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import CURVES, PackTask
from vi_dist.cluster.worker import PackWorker
from vi_dist.sweep.configuration import Configuration
from vi_dist.vi.out_of_memory import is_out_of_memory


def test_what_says_that_memory_is_short() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert is_out_of_memory(
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    )
    assert not is_out_of_memory(RuntimeError("the model failed"))
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 50)
    assert is_out_of_memory(raised.value)


def test_halves_give_what_the_whole_gives(
    toy_setup: Callable[..., Setup], configuration: Callable[..., Configuration]
) -> None:
    """Eleven configurations in 16 columns: halves of eight and of three, stepped twice, against the whole pack."""
    members = tuple(configuration(seed=seed, steps=20 + seed) for seed in range(11))
    task = PackTask(0, 16, members)
    worker = PackWorker(toy_setup())
    whole = worker.advance(task, worker.advance(task, None, 12).state, 20)
    first = joined(task, [worker.advance(*part, 12) for part in halved(task, None)])
    second = joined(task, [worker.advance(*part, 20) for part in halved(task, first.state)])
    np.testing.assert_array_equal(second.after, whole.after)
    for name in CURVES:
        np.testing.assert_allclose(second.curves[name], whole.curves[name], rtol=1e-4, atol=1e-4)
    outcomes = zip(
        worker.evaluate(task, second.state).outcomes, worker.evaluate(task, whole.state).outcomes, strict=True
    )
    for mine, other in outcomes:
        assert mine.status == other.status == "finished"
        assert abs(mine.elbo - other.elbo) < 1e-3


STARVED = """
import json, logging, resource, sys
import numpy as np
from vi_dist.api.catalogue import catalogue
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import PackTask
from vi_dist.cluster.worker import PackWorker
from vi_dist.sweep.space import resolve_one

setup = Setup(BuildSource(path=sys.argv[1]), {"y": np.linspace(-1, 1, 5_000)}, 64, compile="never")
members = tuple(resolve_one({"steps": 2, "num_samples": 64, "seed": k}, catalogue()) for k in range(64))
worker = PackWorker(setup)
worker.advance(PackTask(1, 1, members[:1]), None, 1)  # what tracing needs is there before memory gets short
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (150 << 20), used + (150 << 20)))
logging.basicConfig(stream=sys.stdout)
chunk = worker.advance(PackTask(0, 64, members), None, 2)
outcomes = worker.evaluate(PackTask(0, 64, members), chunk.state).outcomes
print(json.dumps({
    "after": chunk.after.tolist(),
    "finite": bool(np.isfinite(chunk.curves["train/loss"]).all()),
    "evaluated": sum(bool(np.isfinite(outcome.elbo)) for outcome in outcomes),
}))
"""


def test_a_worker_short_of_memory_halves_until_the_pack_fits(toy: Any) -> None:
    """In a process of its own, which is given 150 MB; the pack's intermediates take a gigabyte."""
    path = f"{Path(toy.__file__)}:build"
    ran = subprocess.run(
        [sys.executable, "-c", STARVED, path], capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    *notes, last = ran.stdout.splitlines()
    found = json.loads(last)
    assert found == {"after": [2] * 64, "finite": True, "evaluated": 64}
    assert any("pack 0 of 64 columns does not fit into memory" in note for note in notes)
