"""docs/rayjob.yaml against the fields of KubeRay's RayJob, and against what this repository has."""

from __future__ import annotations

import copy
import json
import shlex
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import typer
import yaml

from vi_dist.cli.main import app


@pytest.fixture(scope="module")
def manifest(root: Path) -> dict[str, Any]:
    loaded = yaml.safe_load((root / "docs" / "rayjob.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


@pytest.fixture(scope="module")
def validator(root: Path) -> Any:
    schema = json.loads((root / "tests" / "rayjob.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def pods(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The specs of the head's pod and of the workers' pods."""
    cluster = manifest["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_every_field_is_one_that_kuberay_or_kubernetes_knows(
    manifest: dict[str, Any], validator: Any
) -> None:
    assert [error.message for error in validator.iter_errors(manifest)] == []


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("spec",), "entryPoint", "python"),
        (("spec", "rayClusterSpec"), "workerGroups", []),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams"), "num-cpus", 0),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0), "maxReplicas", "8"),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0), "resource", {}),
    ],
)
def test_a_slip_is_noticed(
    manifest: dict[str, Any], validator: Any, path: tuple[str | int, ...], key: str, value: object
) -> None:
    wrong = copy.deepcopy(manifest)
    place: Any = wrong
    for step in path:
        place = place[step]
    place[key] = value
    assert not validator.is_valid(wrong)


def test_the_entrypoint_is_a_command_that_the_command_line_understands(
    manifest: dict[str, Any], root: Path
) -> None:
    words = shlex.split(manifest["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "vi_dist.cli.job"]
    command = typer.main.get_command(app)
    assert isinstance(command, click.Group) or hasattr(command, "commands")
    context = command.commands["sweep"].make_context("sweep", words[3:])
    assert context.params["spec"] == Path("/sweep/sweep.yaml")
    assert context.params["tracking_uri"].startswith("http://")
    assert (root / "experiments" / "german_credit" / "sweep.yaml").is_file()


def test_all_pods_have_the_image_and_the_spec_where_the_entrypoint_looks(manifest: dict[str, Any]) -> None:
    for pod in pods(manifest):
        (container,) = pod["containers"]
        assert container["image"] == pods(manifest)[0]["containers"][0]["image"]
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted == {"sweep": "/sweep"}
        assert [volume["name"] for volume in pod["volumes"]] == ["sweep"]
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_the_head_does_no_work_and_the_version_is_the_pinned_one(
    manifest: dict[str, Any], root: Path
) -> None:
    cluster = manifest["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert f"ray=={cluster['rayVersion']}\n" in (root / "constraints.txt").read_text()
    assert all(group["minReplicas"] == 0 < group["maxReplicas"] for group in cluster["workerGroupSpecs"])
