"""The files around the package agree with each other."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import vi_dist

PROJECT = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text())


def _pins(root: Path) -> dict[str, str]:
    """Pinned version by package, of every line of the constraints."""
    lines = [line.partition("#")[0].strip() for line in (root / "constraints.txt").read_text().splitlines()]
    pins = {}
    for requirement in map(Requirement, filter(None, lines)):
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", f"{requirement} is not pinned"
        pins[_canonical(requirement.name)] = specifier.version
    return pins


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared() -> list[Requirement]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    texts = [
        *PROJECT["build-system"]["requires"],
        *PROJECT["project"]["dependencies"],
        *(text for extra in extras for text in extra),
    ]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("requirement", _declared(), ids=str)
def test_every_requirement_is_pinned_within_its_bounds(requirement: Requirement, root: Path) -> None:
    assert requirement.specifier.contains(_pins(root)[_canonical(requirement.name)])


def test_one_torch_pin_serves_cpu_and_gpu(root: Path) -> None:
    assert _pins(root)["torch"] == "2.13.0"
    assert importlib.metadata.version("torch").partition("+")[0] == "2.13.0"


def test_what_is_installed_is_what_is_pinned(root: Path) -> None:
    pins, wrong = _pins(root), {}
    pending, seen = [Requirement("vi_dist")], set()
    while pending:
        requirement = pending.pop()
        for text in importlib.metadata.requires(requirement.name) or ():
            child = Requirement(text)
            extras = requirement.extras or {""}
            if child.marker and not any(child.marker.evaluate({"extra": extra}) for extra in extras):
                continue
            name = _canonical(child.name)
            if (name, *child.extras) in seen:
                continue
            seen.add((name, *child.extras))
            pending.append(child)
            version = importlib.metadata.version(name).partition("+")[0]
            if pins.get(name) != version:
                wrong[name] = (pins.get(name), version)
    assert len(seen) > 100
    assert wrong == {}, "pinned, installed"


@pytest.mark.parametrize("name", vi_dist.__all__)
def test_every_public_name_resolves(name: str) -> None:
    home = importlib.import_module(f"vi_dist.{vi_dist._HOME[name]}")
    assert getattr(vi_dist, name) is getattr(home, name)
    assert name in dir(vi_dist)


def test_names_for_type_checkers_are_the_public_ones(root: Path) -> None:
    tree = ast.parse((root / "vi_dist" / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: node.module for node in imports for alias in node.names}
    assert homes == {name: f"vi_dist.{module}" for name, module in vi_dist._HOME.items()}
    assert sorted(homes) == sorted(vi_dist.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'bean_machine'"):
        vi_dist.bean_machine  # noqa: B018


def test_make_works_from_anywhere_and_refuses_an_old_python(root: Path, tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    makefile = tmp_path / "Makefile"
    makefile.write_text((root / "Makefile").read_text())
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("")
    command = ["make", "-f", str(makefile), "test", f"PYTHON={old}"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "needs Python >= 3.11" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_ci_runs_lint_and_tests(root: Path) -> None:
    script = root / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.findall(r"^make (\w+)$", script.read_text(), re.MULTILINE) == ["lint", "test"]
