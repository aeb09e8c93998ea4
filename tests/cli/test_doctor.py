"""A sweep's directory is data: what is damaged in it is named, and nothing that is planted in it runs."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest
from click.testing import Result
from typer.testing import CliRunner

from benchmarks.damage import DEAD, ROOT, Bench, Planted
from vi_dist import Fit, SpecError
from vi_dist.cli.main import app

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The small sweep of `benchmarks.damage`."""
    made = Bench(tmp_path_factory.mktemp("bench"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.folder)
        yield made


@pytest.fixture(scope="module")
def finished(bench: Bench) -> Path:
    """The directory of a sweep that has run to its end."""
    return bench.sweep()


@pytest.fixture(scope="module")
def killed(bench: Bench) -> Path:
    """The directory of one whose process died in the midst of it."""
    there = bench.folder.with_name("killed")
    there.mkdir()
    code = (
        "import sys, pathlib, benchmarks.damage as d; d.Bench(pathlib.Path(sys.argv[1])).sweep(4, dies=True)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(there)], cwd=ROOT, check=False)
    assert done.returncode == DEAD
    (journal,) = there.glob("out/*/journal")
    return journal.parent


def doctor(directory: Path) -> tuple[int, dict[str, str]]:
    """The exit code, and the states of files by their names."""
    done = CliRunner().invoke(app, ["doctor", str(directory), "--json"])
    return done.exit_code, {one["file"]: one["state"] for one in json.loads(done.stdout)["files"]}


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path], Path]:
    def make(directory: Path) -> Path:
        there = tmp_path / "out" / directory.name
        shutil.copytree(directory, there)
        shutil.copy(directory.parent / "mlflow.db", there.parent)
        return there

    return make


def test_a_finished_sweep_is_whole(finished: Path) -> None:
    code, states = doctor(finished)
    assert code == 0
    assert {"leaderboard.parquet", "plan.json", "origin.json", "curves.parquet"} <= set(states)
    assert set(states.values()) <= {"whole", "no checksum"}


def test_so_is_a_killed_one_with_its_journal(killed: Path) -> None:
    code, states = doctor(killed)
    assert code == 0
    assert any(name.startswith("journal/") for name in states)


@pytest.mark.parametrize("name", ["leaderboard.parquet", "plan.json", "fits"])
def test_what_is_damaged_or_missing_is_named(finished: Path, copy: Callable[[Path], Path], name: str) -> None:
    directory = copy(finished)
    file = directory / name
    if name == "fits":
        file = next(directory.glob("fits/*/params.safetensors"))
    name, content = str(file.relative_to(directory)), file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    code, states = doctor(directory)
    assert (code, states[name]) == (1, "damaged")
    file.unlink()
    code, states = doctor(directory)
    assert (code, states[name]) == (1, "missing")
    words = CliRunner().invoke(app, ["doctor", str(directory)]).stdout
    assert f"{name} is missing" in words


def test_what_was_set_aside_and_computed_again_is_said(
    bench: Bench, killed: Path, copy: Callable[[Path], Path]
) -> None:
    directory = copy(killed)
    answers = next(directory.glob("journal/*.answers"))
    content = bytearray(answers.read_bytes())
    content[len(content) // 3] ^= 1
    answers.write_bytes(content)
    code, states = doctor(directory)
    assert (code, states[f"journal/{answers.name}"]) == (1, "damaged")
    done = CliRunner().invoke(
        app, ["resume", str(directory), "--tracking-uri", f"sqlite:///{directory.parent}/mlflow.db"]
    )
    assert done.exit_code == 0, done.stderr
    code, states = doctor(directory)
    assert code == 0
    assert "set aside" in states.values()


def test_a_folder_that_is_no_sweep_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["doctor", str(tmp_path)])
    assert done.exit_code == 2 and str(tmp_path) in done.stderr


def test_a_report_needs_no_model_and_runs_it_when_asked(
    bench: Bench, finished: Path, copy: Callable[[Path], Path]
) -> None:
    """Draws are stored; the model's file is left alone unless ``--run-model`` allows it."""
    directory, model = copy(finished), bench.folder / "model.py"
    source = model.read_text()
    for file in directory.glob("fits/*/constrain.*"):
        file.unlink()
    model.write_text(source + f"\nopen({str(bench.mark)!r}, 'w').close()\n")
    try:
        assert CliRunner().invoke(app, ["report", str(directory)]).exit_code == 0
        assert not bench.mark.exists()
        # A file that is not the one of the sweep does not run even then.
        assert CliRunner().invoke(app, ["report", str(directory), "--run-model"]).exit_code == 0
        assert not bench.mark.exists()
    finally:
        model.write_text(source)


def doors(bench: Bench, directory: Path, suffix: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Everything that reads a sweep."""
    at, store = str(directory), f"sqlite:///{directory.parent}/mlflow.db"

    def draws() -> object:
        (fit,) = (file.parent for file in sorted(directory.glob("fits/*/params.safetensors"))[:1])
        loaded = Fit.load(fit, f"{bench.folder / 'model.py'}:build", str(bench.folder / "data.npz"))
        return loaded.sample(2)

    commands = [["leaderboard", at], ["doctor", at]]
    if suffix == ".safetensors":  # a page takes seconds
        commands += [["report", at], ["compare", at, "1", "2"]]
    # What keeps track of the spool is JSON; a writer is a process of its own.
    sync = [["sync", at, "--tracking-uri", store]] if suffix == ".jsonl" else []
    for words in (*commands, *sync, ["resume", at]):
        yield words[0], lambda words=words: CliRunner().invoke(app, words)  # type: ignore[misc]
    yield "Fit.load", draws


def test_nothing_planted_in_a_directory_runs(
    bench: Bench, finished: Path, copy: Callable[[Path], Path]
) -> None:
    """All files of one kind after another become pickles that leave a mark; scripts lie in every folder.

    `python -m benchmarks.damage` does it file by file.
    """
    directory = copy(finished)
    script = f"open({str(bench.mark)!r}, 'w').close()\n"
    files = [file for file in sorted(directory.rglob("*")) if file.is_file() and ".lock" not in file.name]
    for folder in {file.parent for file in files}:
        for name in ("guide_model.py", "sitecustomize.py", "conftest.py", "__init__.py", "model.py"):
            (folder / name).write_text(script)
        (folder / "constrain.pt2").write_bytes(pickle.dumps(Planted(bench.mark)))
    for suffix in sorted({file.suffix for file in files}):
        kept = {file: file.read_bytes() for file in files if file.suffix == suffix and file.exists()}
        for file in kept:
            file.write_bytes(pickle.dumps(Planted(bench.mark)))
        for name, door in doors(bench, directory, suffix):
            with suppress(SpecError):
                door()
            assert not bench.mark.exists(), f"{name} ran what was planted in *{suffix}"
        for file, content in kept.items():
            file.write_bytes(content)


def test_nothing_planted_beside_a_champion_runs(bench: Bench, finished: Path, tmp_path: Path) -> None:
    """What MLflow loads is our own module and data, whatever lies in the artifact store."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{finished.parent}/mlflow.db")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            place = Path(
                mlflow.artifacts.download_artifacts("models:/damage@champion", dst_path=str(tmp_path))
            )
            assert not list(place.rglob("*.py"))
            for folder in {file.parent for file in place.rglob("*") if file.is_file()}:
                for name in ("guide_model.py", "sitecustomize.py", "__init__.py"):
                    (folder / name).write_text(f"open({str(bench.mark)!r}, 'w').close()\n")
            drawn = mlflow.pyfunc.load_model(str(place)).predict(None, params={"num_samples": 3})
            assert len(drawn) == 3 and not bench.mark.exists()
            for file in sorted(place.rglob("*.safetensors")) + sorted(place.rglob("*.json")):
                content = file.read_bytes()
                file.write_bytes(pickle.dumps(Planted(bench.mark)))
                said = ""
                try:
                    again = mlflow.pyfunc.load_model(str(place)).predict(None, params={"num_samples": 3})
                except SpecError as error:
                    said = str(error)
                assert file.name in said or again.equals(drawn), "the same draws, or the file is named"
                assert not bench.mark.exists()
                file.write_bytes(content)
    finally:
        mlflow.set_tracking_uri(before)
