"""A toy model's setup and configurations made from the catalogue's defaults."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from vi_dist.api.catalogue import catalogue
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.executor import Executor, Handle, WorkerLost
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.worker import PackWorker
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.space import resolve_one

TOY = Path(__file__).with_name("toy.py")


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The module of toy models."""
    spec = importlib.util.spec_from_file_location("toy_models", TOY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy_models"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def toy_setup(toy: ModuleType) -> Callable[..., Setup]:
    """A setup for one of the toy models."""

    def make(build: str = "build", **changes: Any) -> Setup:
        values = {"samples": 256, "compile": "never"} | changes
        return Setup(BuildSource(path=f"{TOY}:{build}"), {"y": np.array(toy.Y)}, **values)

    return make


@pytest.fixture(scope="session")
def configuration() -> Callable[..., Configuration]:
    """One configuration with defaults: ``configuration(guide="full_rank", seed=3)``."""
    known = catalogue()

    def make(dtype: str = "float32", **values: Any) -> Configuration:
        return resolve_one({"steps": 30, "num_samples": 4, "learning_rate": 0.05, **values}, known, dtype)

    return make


class Scrambled(Executor):
    """Several workers in this process, whose results come in an order of chance, or not at all."""

    concurrent = False

    def __init__(self, workers: int, seed: int, losses: int = 0) -> None:
        self.workers, self.random, self.losses = workers, random.Random(seed), losses
        self.calls: dict[Handle, tuple[int, str, tuple[Any, ...]]] = {}
        self.results: dict[Handle, Any] = {}

    def open(self, setup: Setup, packs: int) -> int:
        self.made = [PackWorker(setup) for _ in range(self.workers)]
        return self.workers

    def submit(self, worker: int, method: str, *arguments: Any) -> Handle:
        handle = len(self.calls)
        self.calls[handle] = (worker, method, arguments)
        return handle

    def wait(self, handles: Sequence[Handle], timeout: float) -> list[Handle]:
        return [self.random.choice(list(handles))]

    def result(self, handle: Handle) -> Any:
        worker, method, arguments = self.calls[handle]
        if method != "place" and self.losses and handle % 7 == 6:  # type: ignore[operator]
            self.losses -= 1
            raise WorkerLost("out of luck")
        return getattr(self.made[worker], method)(*arguments)

    def replace(self, worker: int) -> None:
        self.made[worker] = PackWorker(self.made[worker].setup)

    def close(self) -> None:
        self.made = []


@pytest.fixture(scope="session")
def scrambled() -> Callable[..., Scrambled]:
    """``scrambled(workers, seed, losses)``: an executor whose results come in an order of chance, or not at all."""
    return Scrambled
