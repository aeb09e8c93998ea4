"""Bad input ends with exit code 2 and one message that names file, key and cure; nothing has started by then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

VI = Callable[..., Result]

# What is set, and what the one line on stderr must say.
FAULTS: dict[str, tuple[str, list[str]]] = {
    "unknown key": ("stps=3", ["sweep.yaml", "stps", "did you mean steps"]),
    "wrong type": ("steps=many", ["sweep.yaml", "steps", "a whole number"]),
    "empty space": ("space={}", ["space", "empty", "allowed: guide"]),
    "a range in a grid": (
        "space.learning_rate={low: 0.1, high: 1}",
        ["space.learning_rate", "search: random"],
    ),
    "unknown guide": (
        "space.guide=[mean_feild]",
        ["space.guide[0]", "mean_feild", "did you mean mean_field"],
    ),
    "model not there": ("model=modle.py:build", ["model", "modle.py", "model.py:build"]),
    "function not there": ("model=model.py:bild", ["model.py", "'bild'", "build"]),
    "data not there": ("data=no.npz", ["data", "no.npz", "toy.npz"]),
    "a build that raises": (
        "model=model.py:raises",
        ["model.py", "KeyError", "'z'", "in raises", "the data hold y"],
    ),
    "a build that returns no model": (
        "model=model.py:returns",
        ["model.py", "list", "Model(queries, observations)"],
    ),
    "a build without argument": ("model=model.py:takes_nothing", ["model.py", "def build(data)"]),
    "no random variable": ("model=model.py:not_a_variable", ["queries", "mu", "@random_variable"]),
    "two of one name": ("model=model.py:twice", ["queries", "two variables", "rename"]),
    "outside the support": ("model=model.py:outside", ["observations", "positive", "outside the support"]),
    "of a wrong shape": ("model=model.py:shaped", ["observations", "obs", "[4]"]),
    "NaN in data": ("data=nan.npz", ["nan.npz", "data.y", "row 1"]),
    "a guide that does not fit": ("model=model.py:discrete", ["guide", "coin", "discrete"]),
    "a file that exits": ("model=exits.py:build", ["exits.py", "SystemExit", "line 2"]),
    "a build that exits": ("model=model.py:exits", ["model.py", "SystemExit", "in exits"]),
    "a variable that exits": (
        "model=model.py:exits_in_a_variable",
        ["model.py", "calls sys.exit(0)", "line"],
    ),
    "a functional that exits": ("model=model.py:exits_in_a_functional", ["model.py", "calls sys.exit(0)"]),
    "a truncated archive": ("data=cut.npz", ["cut.npz", "cannot be read as npz"]),
    "columns that there are not": ("columns=[z]", ["toy.npz", "columns", "no column z", "allowed: y"]),
    "columns that are no list": ("columns=y", ["columns", "no list of names"]),
    "blocks of nobody": ("space.guide=[{structured: {blocks: nu}}]", ["space.guide[0]", "'nu'", "mu"]),
    "kinked under stl": (
        "space={divergence: [total_variation], estimator: [stl]}",
        ["space.estimator[0]", "kink", "use reparam"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_one_clear_error(folder: Path, vi_dist: VI, fault: str) -> None:
    override, words = FAULTS[fault]
    done = vi_dist("sweep", "sweep.yaml", "--set", override)
    assert done.exit_code == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    message = done.stderr.strip().splitlines()[-1]
    for word in words:
        assert word in message
    assert not (folder / "vi-dist-out").exists(), "nothing may have started"


def test_an_objective_that_cannot_train_the_models_params_is_named(folder: Path, vi_dist: VI) -> None:
    done = vi_dist(
        "sweep",
        "sweep.yaml",
        "--set",
        "model=model.py:with_param",
        "--set",
        "space.divergence=[kl_reverse, kl_forward]",
    )
    assert done.exit_code == 2
    assert "space.divergence[1]" in done.stderr and "use kl_reverse" in done.stderr


def test_a_traceback_comes_with_debug_only(folder: Path, vi_dist: VI) -> None:
    done = vi_dist("sweep", "sweep.yaml", "--set", "model=model.py:raises", "--debug")
    assert done.exit_code == 2
    assert "Traceback" in done.stderr


def test_a_spec_that_is_not_there(folder: Path, vi_dist: VI) -> None:
    done = vi_dist("sweep", "swep.yaml")
    assert done.exit_code == 2
    assert "swep.yaml" in done.stderr and "sweep.yaml" in done.stderr


def test_options_have_their_choices(folder: Path, vi_dist: VI) -> None:
    assert vi_dist("sweep", "sweep.yaml", "--executor", "slurm").exit_code == 2
    assert vi_dist("list", "samplers").exit_code == 2
    assert vi_dist("sweep", "sweep.yaml", "--set", "steps").exit_code == 2


@pytest.mark.parametrize("command", ["leaderboard", "ui", "sync"])
def test_a_directory_without_a_sweep(folder: Path, vi_dist: VI, command: str) -> None:
    done = vi_dist(command, str(folder))
    assert done.exit_code == 2
    assert str(folder) in done.stderr and "Traceback" not in done.stderr


def test_no_cluster_at_the_address(folder: Path, vi_dist: VI) -> None:
    done = vi_dist("sweep", "sweep.yaml", "--executor", "ray", "--address", "127.0.0.1:9")
    assert done.exit_code == 2
    assert "address" in done.stderr and "127.0.0.1:9" in done.stderr
    assert not (folder / "vi-dist-out").exists()


def test_a_path_that_leads_nowhere(folder: Path, vi_dist: VI) -> None:
    (folder / "circle").symlink_to("circle")
    (folder / "file").write_text("")
    for command in ("leaderboard", "report", "resume", "sync", "ui"):
        for path in ("a" * 300, "a/" * 3000, "circle", "file", "file/below", "/dev/zero"):
            done = vi_dist(command, path)
            assert done.exit_code == 2, (command, path[:20], done.stderr)
            assert "Traceback" not in done.stderr and path[:20] in done.stderr


def test_columns_of_two_lengths_are_named_where_the_model_fails(folder: Path, vi_dist: VI) -> None:
    done = vi_dist(
        "sweep", "sweep.yaml", "--set", "model=model.py:of_two_lengths", "--set", "data=lengths.npz"
    )
    assert done.exit_code == 2
    for word in ("model.py", "raised by both", "different lengths: y 6, x 5"):
        assert word in done.stderr


@pytest.mark.parametrize("columns", ["null", "[y]"])
def test_holes_in_columns_that_build_does_not_read_are_no_matter(
    folder: Path, vi_dist: VI, columns: str
) -> None:
    done = vi_dist(
        "sweep", "sweep.yaml", "--set", "data=holes.csv", "--set", f"columns={columns}", "--dry-run"
    )
    assert done.exit_code == 0, done.stderr
