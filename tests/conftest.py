"""Fixtures and settings that all tests share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

# Before anything imports numpy, torch, Ray or MLflow: one thread each, and no reports to anybody.
os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",
    MKL_CBWR="AUTO",  # as in every worker: the same bits wherever a row stands in a product
    RAY_USAGE_STATS_ENABLED="0",
    MLFLOW_DISABLE_TELEMETRY="true",
    DO_NOT_TRACK="true",
    MPLBACKEND="agg",
)

import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile("vi_dist", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("vi_dist")
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run in several processes, those that share something dear run in one: a file's, and all of Ray's.

    What has slow tests begins first, so that no process is left with them at the end; benchmarks come last, because
    their peers (Pyro, JAX), where they are installed, change torch and the warnings of a process for good.
    """
    of_ray = {item.path for item in items if "local_ray" in getattr(item, "fixturenames", ())}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    for item in items:
        item.add_marker(pytest.mark.xdist_group("ray" if item.path in of_ray else str(item.path)))
    items.sort(key=lambda item: (item.path.parent.name == "benchmarks", item.path not in slow))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(autouse=True)
def _same_start() -> None:
    """Give every test the same global generator, default dtype and log, whatever ran before it."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32)
    logging.getLogger("vi_dist.vi.trace").setLevel(logging.NOTSET)  # the command line turns it down


@pytest.fixture(scope="session")
def local_ray() -> Iterator[str]:
    """A real Ray with two CPUs, started by the first test that asks for it; gives its address."""
    import ray

    context = ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        object_store_memory=200 * 2**20,
    )
    yield str(context.address_info["address"])
    ray.shutdown()
