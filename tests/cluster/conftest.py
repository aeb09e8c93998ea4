"""A toy model's setup and configurations made from the catalogue's defaults."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from vi_dist.api.catalogue import catalogue
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.setup import Setup
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

    def make(**values: Any) -> Configuration:
        return resolve_one({"steps": 30, "num_samples": 4, "learning_rate": 0.05, **values}, known)

    return make
