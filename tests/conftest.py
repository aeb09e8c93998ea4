"""Fixtures and settings that all tests share."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

# Before anything imports numpy, torch, Ray or MLflow: one thread each, and no reports to anybody.
os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",
    MKL_CBWR="AUTO",  # as in every worker: the same bits wherever a row stands in a product
    RAY_USAGE_STATS_ENABLED="0",
    RAY_prestart_worker_first_driver="0",  # workers that no actor of ours could use
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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where tests run in several processes, those that share something dear run in one (`together`).

    Marks would say the same, but pytest 9.2 has taken away what xdist 3.8 passes them on by, and it says nothing.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        """Groups of tests that run in one process, in the order in which they are collected."""

        def _split_scope(self, nodeid: str) -> str:
            return together(nodeid.partition("::")[0])

    return Together(config, log) if config.getoption("dist") == "loadgroup" else None


@cache
def together(file: str) -> str:
    """The name of a file's group: its own, but for all that use one Ray, or one sweep or store of their folder."""
    path = ROOT / file
    if path.suffix == ".py" and "local_ray" in path.read_text():
        return "ray"
    shared = file.startswith(("tests/api/", "tests/tracking/"))
    return path.parent.name if shared else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is slow begins first, so that no process is left with it at the end.

    Benchmarks come last, because their peers (Pyro, JAX), where they are installed, change torch and the warnings of
    a process for good.
    """
    files = {item: item.nodeid.partition("::")[0] for item in items}
    slow = {file for item, file in files.items() if item.get_closest_marker("slow")}
    first = ("ray", "api")

    def place(item: pytest.Item) -> tuple[bool, bool, bool]:
        file = files[item]
        return item.path.parent.name == "benchmarks", together(file) not in first, file not in slow

    items.sort(key=place)


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
def with_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """``with_store(folder)``: the folder, with an empty MLflow store in it; to make a schema takes a second."""
    from vi_dist.tracking.environment import default_tracking_uri
    from vi_dist.tracking.opening import open_store

    template = tmp_path_factory.mktemp("store")
    open_store(default_tracking_uri(template))

    def make(folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        shutil.copy(template / "mlflow.db", folder)
        return folder

    return make


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
