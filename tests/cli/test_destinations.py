"""Where results and records cannot go is said before anything starts, by a dry run too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

VI = Callable[..., Result]

FAULTS: dict[str, tuple[str, list[str]]] = {
    "a file in place of the output folder": ("output_dir=toy.npz", ["output_dir", "is no folder"]),
    "a file above the output folder": (
        "output_dir=toy.npz/out/more",
        ["output_dir", "toy.npz", "is no folder"],
    ),
    "a folder of the system's": ("output_dir=/proc/vi_dist", ["output_dir", "nothing can be written"]),
    "a long name of a folder": (f"output_dir={'a' * 300}", ["output_dir", "name"]),
    "an output address of no kind": ("output_dir=nope://bucket/x", ["output_dir", "nope"]),
    "a database without a file": ("tracking_uri='sqlite://'", ["tracking_uri", "names no file"]),
    "a database in memory": ("tracking_uri='sqlite:///:memory:'", ["tracking_uri", "memory"]),
    "a database that is a folder": ("tracking_uri='sqlite:///.'", ["tracking_uri", "is a folder"]),
    "a database in no folder": (
        "tracking_uri='sqlite:////proc/x/m.db'",
        ["tracking_uri", "nothing can be written"],
    ),
    "a store of no kind": (
        "tracking_uri='htp://head:5000'",
        ["tracking_uri", "'htp'", "http, https, sqlite"],
    ),
    "a server without a host": ("tracking_uri='http://'", ["tracking_uri", "names no host"]),
    "a port that is none": ("tracking_uri='http://head:99999'", ["tracking_uri", "is no address"]),
    "half an address": ("tracking_uri='http://[::1'", ["tracking_uri", "is no address"]),
    "a file in place of a store": ("tracking_uri=toy.npz", ["tracking_uri", "sqlite:///toy.npz"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_place_that_takes_nothing_is_found_by_a_dry_run(folder: Path, vi_dist: VI, fault: str) -> None:
    override, words = FAULTS[fault]
    before = sorted(folder.rglob("*"))
    for options in (["--dry-run"], []):
        done = vi_dist("sweep", "sweep.yaml", "--set", override, *options)
        assert done.exit_code == 2, done.stderr
        assert "Traceback" not in done.stderr
        message = done.stderr.strip().splitlines()[-1]
        for word in ("sweep.yaml", *words):
            assert word in message
        assert sorted(folder.rglob("*")) == before


def test_a_dry_run_leaves_nothing(folder: Path, vi_dist: VI) -> None:
    before = sorted(folder.rglob("*"))
    assert vi_dist("sweep", "sweep.yaml", "--dry-run").exit_code == 0
    assert [path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts] == before
