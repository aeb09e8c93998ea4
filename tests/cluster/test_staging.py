"""What a job takes along: the spec's files and this package, nothing that belongs to this machine, nothing too big."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from vi_dist.cli.jobs import check_results_outlive
from vi_dist.cluster.remote_output import local_output, publish
from vi_dist.cluster.staging import SPEC, check_size, stage
from vi_dist.errors import SpecError
from vi_dist.sweep.spec import SweepSpec, load_spec

TEXT = """
name: toy
model: {model}
data: {data}
space: {{guide: [mean_field]}}
executor: inline
address: 127.0.0.1:6379
output_dir: results
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A spec's folder with what gathers there."""
    place = tmp_path / "sweep"
    clutter = [
        ".git/config",
        ".venv/lib/torch.so",
        "vi-dist-out/a/curves.parquet",
        "results/b/curves.parquet",
    ]
    for name in (
        "model.py",
        "helper.py",
        ".gitignore",
        "sub/notes.txt",
        "mlflow.db",
        "mlflow.db-wal",
        *clutter,
    ):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("def build(data): ...")
    np.savez(place / "y.npz", y=np.zeros(3))
    return place


def spec_of(folder: Path, model: str = "model.py:build", data: str = "y.npz", **changes: object) -> SweepSpec:
    (folder / "sweep.yaml").write_text(TEXT.format(model=model, data=data))
    return load_spec(folder / "sweep.yaml", changes)


def names(archive: Path) -> set[str]:
    """What is in an archive, the package left out."""
    with zipfile.ZipFile(archive) as file:
        return {name for name in file.namelist() if not name.startswith(("vi_dist/", "vi_dist-"))}


def test_the_archive_holds_the_folder_and_the_package_and_no_clutter(folder: Path, tmp_path: Path) -> None:
    staged = stage(spec_of(folder), tmp_path)
    assert names(staged.archive) == {"model.py", "helper.py", "sub/notes.txt", "y.npz", "sweep.yaml", SPEC}
    with zipfile.ZipFile(staged.archive) as file:
        assert {"vi_dist/__init__.py", "vi_dist/cli/job.py", "vi_dist/py.typed"} <= set(file.namelist())
        assert not [name for name in file.namelist() if "__pycache__" in name]


def test_the_submitted_spec_reads_the_same_sweep_on_the_cluster(folder: Path, tmp_path: Path) -> None:
    spec = spec_of(folder, **{"space.seed": [0, 1]})
    with zipfile.ZipFile(stage(spec, tmp_path).archive) as file:
        file.extractall(tmp_path / "there")
    there = load_spec(tmp_path / "there" / SPEC)
    assert there.model == f"{tmp_path}/there/model.py:build"
    assert there.data == f"{tmp_path}/there/y.npz"
    assert (there.executor, there.address, there.output_dir) == (
        "ray",
        None,
        str(Path("~/vi-dist-out").expanduser()),
    )
    assert there.space == spec.space and set(there.space) == {"guide", "seed"}


def test_a_model_and_data_from_elsewhere_come_along_with_what_the_model_may_import(
    folder: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "models"
    elsewhere.mkdir()
    for name in ("far.py", "beside.py", "unrelated.txt"):
        (elsewhere / name).write_text("def build(data): ...")
    (folder / "y.npz").rename(tmp_path / "far.npz")
    staged = stage(spec_of(folder, "../models/far.py:build", "../far.npz"), tmp_path)
    brought = {name for name in names(staged.archive) if name.startswith("vi_dist_files/")}
    assert brought == {
        f"vi_dist_files/{name}" for name in ("model/far.py", "model/beside.py", "data/far.npz")
    }
    with zipfile.ZipFile(staged.archive) as file:
        told = yaml.safe_load(file.read(SPEC))
    assert (told["model"], told["data"]) == ("vi_dist_files/model/far.py:build", "vi_dist_files/data/far.npz")


def test_too_much_is_refused_with_the_size_and_the_biggest_files(folder: Path, tmp_path: Path) -> None:
    (folder / "big.bin").write_bytes(np.random.default_rng(0).bytes(3 * 2**20))
    staged = stage(spec_of(folder), tmp_path)
    check_size(staged, 4 * 2**20)
    with pytest.raises(
        SpecError, match=r"files are 3\.\d MiB packed and Ray takes 1\.0 MiB; .* big\.bin \(3\.0 MiB\)"
    ):
        check_size(staged, 2**20)


@pytest.mark.parametrize(
    "changes",
    [
        {"tracking_uri": "http://head:5000"},
        {"tracking_uri": "postgresql://head/mlflow"},
        {"output_dir": "s3://bucket/folder"},
    ],
)
def test_results_that_outlive_the_cluster_are_enough(folder: Path, changes: dict[str, str]) -> None:
    check_results_outlive(spec_of(folder, **changes))


@pytest.mark.parametrize("uri", [None, "sqlite:///mlflow.db", "file:///tmp/mlruns", "./mlruns"])
def test_results_on_the_heads_disk_are_not(folder: Path, uri: str | None) -> None:
    with pytest.raises(SpecError, match="must outlive the cluster") as caught:
        check_results_outlive(spec_of(folder, tracking_uri=uri))
    assert caught.value.key == "tracking_uri"
    assert caught.value.path == str(folder / "sweep.yaml")


def test_an_output_directory_elsewhere_gets_a_copy(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert local_output("here") == tmp_path / "here"
    for target in (f"file://{tmp_path}/bucket", "memory://bucket"):
        assert local_output(target) == tmp_path / "vi-dist-out"
        publish(folder, target)
    assert (tmp_path / "bucket" / "sweep" / "sub" / "notes.txt").read_text() == "def build(data): ..."
    import fsspec

    assert fsspec.filesystem("memory").exists("/bucket/sweep/sub/notes.txt")


def test_an_output_directory_that_cannot_be_is_told_before_the_sweep() -> None:
    with pytest.raises(SpecError, match=r"nothing can be written to 'gopher://hole'") as caught:
        local_output("gopher://hole")
    assert caught.value.key == "output_dir"
