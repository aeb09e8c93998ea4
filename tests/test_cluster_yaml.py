"""cluster.yaml against Ray's own validation and the published shape of an EC2 request, without a cloud."""

from __future__ import annotations

import copy
import re
import subprocess
from pathlib import Path
from typing import Any

import botocore.session
import botocore.validate
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

# What Ray adds to a node's configuration when it asks EC2 for instances.
ADDED_BY_RAY = {"MinCount": 1, "MaxCount": 1}


@pytest.fixture(scope="module")
def config(root: Path) -> dict[str, Any]:
    loaded = yaml.safe_load((root / "cluster.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def _faults(node_config: dict[str, Any]) -> str:
    """What EC2's RunInstances would not understand in a node's configuration; empty if nothing."""
    session = botocore.session.get_session()
    shape = session.get_service_model("ec2").operation_model("RunInstances").input_shape
    return botocore.validate.ParamValidator().validate(node_config | ADDED_BY_RAY, shape).generate_report()


def test_ray_accepts_it(config: dict[str, Any]) -> None:
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    assert prepared["available_node_types"].keys() == {"head", "cpu_spot", "gpu_spot"}


@pytest.mark.parametrize("node_type", ["head", "cpu_spot", "gpu_spot"])
def test_ec2_understands_every_key(config: dict[str, Any], node_type: str) -> None:
    node_config = config["available_node_types"][node_type]["node_config"]
    assert _faults(node_config) == ""
    assert "InstanceTyp" in _faults(node_config | {"InstanceTyp": "m7i.xlarge"})


def test_the_head_does_no_work_and_workers_are_spot(config: dict[str, Any]) -> None:
    types = config["available_node_types"]
    assert types[config["head_node_type"]]["resources"] == {"CPU": 0}
    workers = [types["cpu_spot"], types["gpu_spot"]]
    assert [worker["resources"].get("GPU", 0) for worker in workers] == [0, 1]
    for worker in workers:
        assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
        assert worker["min_workers"] == 0 < worker["max_workers"]
    assert config["idle_timeout_minutes"] > 0


def test_nodes_install_the_pinned_versions_of_what_is_here(config: dict[str, Any], root: Path) -> None:
    installs = [command for command in config["setup_commands"] if "pip install" in command]
    assert installs
    assert all("-c ~/vi_dist/constraints.txt" in command for command in installs)
    for remote, local in config["file_mounts"].items():
        assert remote.startswith("~/")
        assert local.startswith("~/.ray/") or (root / local).exists(), local


def test_every_node_asks_for_the_token(config: dict[str, Any]) -> None:
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [command for command in config[key] if "ray start" in command]
        assert len(starts) == 1
        assert "RAY_AUTH_MODE=token" in starts[0]


def test_mlflow_runs_on_the_head_and_is_not_open_to_the_network(config: dict[str, Any]) -> None:
    (command,) = [line for line in config["head_start_ray_commands"] if "mlflow server" in line]
    assert re.search(r"--host 127\.0\.0\.1\b", command)


def test_commands_are_valid_shell(config: dict[str, Any]) -> None:
    # YAML cuts a command off at " #" and reads ": " as a mapping; the shell notices.
    keys = ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
    script = "\n".join(command for key in keys for command in config[key])
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
