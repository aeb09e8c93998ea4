"""One core and one thread for every side of a comparison."""

from __future__ import annotations

import os

import torch


def settle(core: int | None) -> int:
    """Pin this process to one core (the last one by default) and every library in it to one thread; the core.

    Called before anything is computed: XLA reads its flags at its first computation.
    """
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    torch.set_num_threads(1)
    chosen = max(os.sched_getaffinity(0)) if core is None else core
    os.sched_setaffinity(0, {chosen})
    return chosen
