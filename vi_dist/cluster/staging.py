"""What a job on a cluster needs of this machine, as one archive: the spec, its files and this very vi_dist."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import yaml

import vi_dist
from vi_dist.errors import SpecError
from vi_dist.sweep.spec import SweepSpec

SPEC = "vi_dist_submitted.yaml"
"""The resolved spec in the archive."""
_ELSEWHERE = "vi_dist_files"
"""Where files from outside the spec's folder go."""
_LEFT_OUT = frozenset(
    """.git .venv venv node_modules __pycache__ .ipynb_checkpoints .mypy_cache .pytest_cache .ruff_cache .hypothesis
    mlruns mlartifacts vi-dist-out .gitignore .rayignore""".split()  # noqa: SIM905 - a list of words reads better
)
_STORES = ("mlflow.db", ".mlflow.db")
_BIGGEST = 5


@dataclass(frozen=True)
class Staged:
    """An archive that is ready to be sent.

    Attributes:
        archive: the zip file.
        files: what is in it: size in bytes by name.
    """

    archive: Path
    files: Mapping[str, int]


def stage(spec: SweepSpec, folder: Path) -> Staged:
    """Write the archive of a sweep into a folder.

    It holds the folder of the spec (output directories, environments, caches and version control left out), the
    model and the data if they are elsewhere, the resolved spec, and the package as a wheel holds it.
    """
    base = spec.source.base
    found = dict(_own_package())
    if spec.source.path is not None:
        found |= {str(file.relative_to(base)): file for file in _walk(base, _output(spec))}
    values = spec.to_dict()
    for key, place in (("model", "model"), ("data", "data")):
        if values.get(key) and "://" not in values[key]:
            values[key], more = _placed(values[key], base, f"{_ELSEWHERE}/{place}", found)
            found |= more
    archive = folder / "vi_dist_job.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, path in sorted(found.items()):
            file.write(path, name)
        file.writestr(SPEC, _for_cluster(values))
    return Staged(archive, {name: path.stat().st_size for name, path in found.items()})


def check_size(staged: Staged, limit: int) -> None:
    """Raise `SpecError` with the size and the biggest files if an archive is over a limit in bytes."""
    size = staged.archive.stat().st_size
    if size <= limit:
        return
    biggest = sorted(staged.files.items(), key=lambda item: -item[1])[:_BIGGEST]
    listed = ", ".join(f"{name} ({_mib(count)})" for name, count in biggest)
    raise SpecError(
        f"the job's files are {_mib(size)} packed and Ray takes {_mib(limit)}; the biggest: {listed}. Move what the "
        "sweep does not need out of the spec's folder"
    )


def _own_package() -> Iterator[tuple[str, Path]]:
    """The package and its metadata by their names in a wheel."""
    package = Path(vi_dist.__file__).parent
    for path in _walk(package, None):
        yield str(Path(package.name) / path.relative_to(package)), path
    try:
        known = distribution("vi_dist")
    except PackageNotFoundError:  # run from its source: it has no version either
        return
    for item in known.files or ():
        if item.parts[0].endswith(".dist-info") and item.name == "METADATA":
            yield str(item), Path(str(known.locate_file(item)))


def _walk(folder: Path, output: Path | None) -> Iterator[Path]:
    """The files in a folder, without what a sweep leaves there and what belongs to this machine."""
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = [
            name
            for name in folders
            if name not in _LEFT_OUT and not name.endswith(".egg-info") and here / name != output
        ]
        for name in names:
            path = here / name
            if name not in _LEFT_OUT and not name.startswith(_STORES) and path.is_file():
                yield path


def _output(spec: SweepSpec) -> Path | None:
    """The spec's own output directory, if it is on this machine."""
    return Path(spec.output_dir) if spec.output_dir and "://" not in spec.output_dir else None


def _placed(value: str, base: Path, place: str, there: Mapping[str, Path]) -> tuple[str, dict[str, Path]]:
    """A path of the spec as the archive has it, and the files that must join the archive for it.

    A model from elsewhere brings the Python files beside it, which it may import.
    """
    text, colon, function = (
        value.rpartition(":") if value.rpartition(":")[0].endswith(".py") else (value, "", "")
    )
    path = Path(text)
    if path.is_relative_to(base) and (str(path.relative_to(base)) in there or path.is_dir()):
        return f"{path.relative_to(base)}{colon}{function}", {}
    if path.is_dir():
        more = {f"{place}/{file.relative_to(path)}": file for file in _walk(path, None)}
        return place, more
    beside = path.parent.glob("*.py") if colon else ()
    more = {f"{place}/{file.name}": file for file in (path, *beside)}
    return f"{place}/{path.name}{colon}{function}", more


def _for_cluster(values: dict[str, Any]) -> str:
    """The spec as the job reads it: on the cluster that it runs in, with a folder of its own for what it writes."""
    changed = {**values, "executor": "ray"}
    changed.pop("address", None)
    if "://" not in changed.get("output_dir", ""):
        changed["output_dir"] = "~/vi-dist-out"
    return yaml.safe_dump(changed, sort_keys=False, allow_unicode=True)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
