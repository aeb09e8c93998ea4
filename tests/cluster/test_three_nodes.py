"""Three nodes on one machine, one of which is lost in mid-sweep; and a GPU that nobody has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vi_dist

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What the program in three_nodes.py prints; a process of its own, since one process has one Ray."""
    script = Path(__file__).with_name("three_nodes.py")
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(vi_dist.__file__).parents[1]),
        "RAY_AUTH_MODE": "disabled",
    }
    command = [sys.executable, "-W", "ignore", str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_node_removed_in_mid_sweep_changes_nothing(told: dict[str, Any]) -> None:
    assert told["removed"] == 1
    assert told["attempts"] == [1, 2]
    assert told["same"]


def test_a_sweep_that_wants_a_gpu_says_what_it_waits_for(told: dict[str, Any]) -> None:
    assert told["gpu"] == "a worker needs 1 GPU and the cluster has 0"
