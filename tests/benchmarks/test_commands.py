"""The benchmarks' commands run, without peers too, and their tables have the columns they promise."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.slow


def _run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def _step_cost(root: Path, out: Path, sides: str, model: str = "eight_schools") -> pd.DataFrame:
    row = ["--models", model, "--guides", "mean_field", "--columns", "1", "--samples", "1"]
    brief = ["--repeats", "2", "--slice", "0.001", "--sides", sides, "--out", str(out)]
    done = _run(root, "benchmarks.step_cost", *row, *brief)
    assert done.returncode == 0, done.stderr
    return pd.read_parquet(out)


def test_step_cost_without_peers(root: Path, tmp_path: Path) -> None:
    """Compiling is a matter of half a minute, and of the tests of compiled programs."""
    frame = _step_cost(root, tmp_path / "cost.parquet", "eager")
    assert list(frame["side"]) == ["vi_dist eager"]
    assert (frame[["wall_us", "cpu_us", "ahead", "ahead_cpu"]] > 0).all(axis=None)
    assert frame.set_index("side")["ahead"]["vi_dist eager"] == 1
    assert set(frame["void"]) == {"-"}  # nothing to agree with


@pytest.mark.parametrize("peer", ["pyro", "numpyro"])
def test_peers_reach_the_same_elbo(root: Path, tmp_path: Path, peer: str) -> None:
    pytest.importorskip(peer)
    frame = _step_cost(root, tmp_path / "cost.parquet", f"eager,{peer}").set_index("side")
    assert len(frame) == 2
    assert set(frame["void"]) == {"no"}


def test_a_missing_peer_is_one_sentence(root: Path) -> None:
    if find_spec("numpyro"):
        pytest.skip("numpyro is here")
    done = _run(root, "benchmarks.step_cost", "--sides", "compiled,numpyro")
    assert done.returncode == 1
    assert done.stderr.startswith("numpyro not installed: install the bench extra")
    assert len(done.stderr.splitlines()) == 1


def test_scale_has_both_tables(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "scale.parquet"
    brief = ["--configurations", "3", "--workers", "2", "--columns", "8", "--chunks", "8"]
    done = _run(root, "benchmarks.scale", *brief, "--out", str(out))
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(out)
    sweeps, drivers = frame[frame["workers"].isna()], frame[frame["workers"].notna()]
    assert (sweeps[["driver_ms", "writer_ms", "store_kb", "report_mb"]] > 0).all(axis=None)
    assert list(drivers["columns"]) == [8]
    assert (drivers["chunks"] == 8).all() and (drivers["chunks_s"] > 0).all()


def test_device_on_the_processor(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "device.parquet"
    options = ["--device", "cpu", "--models", "eight_schools", "--columns", "8,16", "--steps", "16"]
    done = _run(root, "benchmarks.device", *options, "--sides", "launched,replayed", "--out", str(out))
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(out)
    assert list(frame["C"]) == [8, 8, 16, 16]
    assert (frame["times_bound"] > 1).all()  # the bound is a bound
