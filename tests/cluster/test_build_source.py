"""Finding a model's build: by path, once per content; and carrying a function to another process."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from vi_dist.cluster.build_source import BuildSource
from vi_dist.errors import ModelError


def test_a_file_is_run_once_and_again_when_it_was_edited(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    (tmp_path / "beside.py").write_text("NUMBER = 3")
    file.write_text("import beside\nruns = []\nruns.append(1)\ndef build(data): return beside.NUMBER, runs")
    source = BuildSource(path=f"{file}:build")
    first = source.load()
    assert first is source.load()
    assert first({}) == (3, [1])
    version = source.version()
    file.write_text("def build(data): return 4")
    assert source.load()({}) == 4
    assert source.version() != version


def test_functions_of_one_file_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text("def build(data): ...\ndef other(data): ...")
    assert len({BuildSource(path=f"{file}:{name}").version() for name in ("build", "other")}) == 2

    def make(degree: int) -> Callable[[object], int]:
        def build(data: object) -> int:
            return degree

        return build

    def build(degree: int, data: object) -> int:
        return degree

    functions = [build, make(1), make(2), partial(build, 1), partial(build, 2), partial(build, degree=1)]
    assert len({BuildSource(function=function).version() for function in functions}) == len(functions)
    assert BuildSource(function=make(1)).version() == BuildSource(function=make(1)).version()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def other(data): ...", ["'build' is not a function", "allowed: other"]),
        ("build = 3", ["'build' is not a function"]),
        ("x = 1\nraise OSError('no')", ["does not run", "OSError: no", "line 2"]),
        ("def build(:", ["does not run", "SyntaxError"]),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_name(tmp_path: Path, text: str, words: list[str]) -> None:
    file = tmp_path / "model.py"
    file.write_text(text)
    with pytest.raises(ModelError) as caught:
        BuildSource(path=f"{file}:build").load()
    assert caught.value.path == str(file)
    assert caught.value.key == "model"
    for word in words:
        assert word in str(caught.value)


def test_a_function_travels_without_its_module(tmp_path: Path) -> None:
    (tmp_path / "notebook_like.py").write_text("SCALE = 2\ndef build(data): return SCALE * data")
    script = (
        "import sys, pickle; sys.path.insert(0, sys.argv[1]); import notebook_like; "
        "from vi_dist.cluster.build_source import BuildSource; "
        "sys.stdout.buffer.write(pickle.dumps(BuildSource(function=notebook_like.build)))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, check=True)
    one, other = pickle.loads(done.stdout), pickle.loads(done.stdout)
    assert one.load()(21) == 42
    assert one.load() is other.load(), "random variables are equal only if their functions are the same"
