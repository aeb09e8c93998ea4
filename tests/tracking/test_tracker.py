"""The whole way: a driver, its spool, a writer process, a real store; and what happens when one of them dies."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

import vi_dist
from vi_dist.errors import DamagedFile
from vi_dist.tracking.environment import default_tracking_uri
from vi_dist.tracking.records import Metrics, Note, RunStarted, SweepEnded, SweepStarted
from vi_dist.tracking.spool import RECORDS
from vi_dist.tracking.state import State
from vi_dist.tracking.sync import sync
from vi_dist.tracking.tracker import LOG, Tracker
from vi_dist.tracking.ui import serve, where_to_look

REPOSITORY = Path(vi_dist.__file__).parents[1]


def test_a_sweep_reaches_sqlite_and_its_pages(
    output_dir: Path, sweeps: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(output_dir)
    directory = output_dir / "demo-1"
    tracker = Tracker("demo-1/spool", "sqlite:///mlflow.db").start()
    monkeypatch.chdir("/")
    began = time.perf_counter()
    for record in sweeps.records(runs=4, points=20, experiment="demo"):
        tracker.write(record)
    assert time.perf_counter() - began < 1.0
    summary = tracker.close()
    assert (summary.pending, summary.dropped, summary.error) == (0, 0, None)
    assert summary.tracking_uri == default_tracking_uri(output_dir)
    client = MlflowClient(summary.tracking_uri)
    stored = sweeps.stored(client, "demo")
    sweeps.check(stored, runs=4, points=20)
    assert summary.experiment_id == stored.experiment_id
    assert summary.parent_run_id == stored.parent().info.run_id
    assert summary.run_ids == {key: run.info.run_id for key, run in stored.children().items()}
    assert capfd.readouterr() == ("", "")
    assert sync(directory) == summary
    assert where_to_look(output_dir) == f"vi-dist ui {directory}"
    with serve(output_dir) as server:
        assert "viewStateShareKey=" in server.url
        over_http = sweeps.stored(MlflowClient(server.base), "demo")
        sweeps.check(over_http, runs=4, points=20)
        assert server.process is not None
    assert server.process.poll() is not None
    assert capfd.readouterr() == ("", "")


def stored_points(database: Path) -> int:
    """How many points there are, without MLflow's help, so that it costs next to nothing."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        count = int(connection.execute("select count(*) from metrics").fetchone()[0])
    connection.close()
    return count


def test_a_writer_killed_in_mid_stream_loses_and_doubles_nothing(output_dir: Path, sweeps: Any) -> None:
    directory, database = output_dir / "demo-1" / "spool", output_dir / "mlflow.db"
    tracker = Tracker(directory, default_tracking_uri(output_dir)).start()
    records = sweeps.records(runs=24, points=60, experiment="demo")
    started = sum(isinstance(record, SweepStarted | RunStarted) for record in records)
    for record in records[:started]:
        tracker.write(record)
    sweeps.wait_for(lambda: State.load(directory).offset)
    for record in records[started:-1]:
        tracker.write(record)
    sweeps.wait_for(lambda: stored_points(database) >= 300)
    assert tracker._process is not None
    os.kill(tracker._process.pid, signal.SIGKILL)
    tracker._process.wait()
    assert State.load(directory).offset < (directory / RECORDS).stat().st_size
    tracker.write(records[-1])
    summary = tracker.close()
    assert (summary.pending, summary.error) == (0, None)
    sweeps.check(sweeps.stored(MlflowClient(summary.tracking_uri), "demo"), runs=24, points=60)


def test_a_server_killed_in_mid_sweep_gets_every_point(tmp_path: Path, server: Any, sweeps: Any) -> None:
    directory = tmp_path / "demo-1" / "spool"
    records = sweeps.records(runs=6, points=200, experiment="served")
    tracker = Tracker(directory, server.uri).start()
    for record in records[:10]:
        tracker.write(record)
    sweeps.wait_for(lambda: State.load(directory).offset)
    server.kill()
    for record in records[10:]:
        tracker.write(record)
    sweeps.wait_for(lambda: State.load(directory).trouble)
    meanwhile = tracker.summary()
    assert meanwhile.pending > 0
    assert server.uri in str(meanwhile.error)
    server.start()
    summary = tracker.close()
    assert (summary.pending, summary.error) == (0, None)
    client = MlflowClient(server.uri)
    sweeps.check(sweeps.stored(client, "served"), runs=6, points=200)
    assert where_to_look(directory.parent).startswith(
        f"{server.uri}/#/experiments/{summary.experiment_id}/runs?"
    )
    page = serve(directory.parent)
    assert page.process is None
    assert page.base == server.uri


DRIVER = """
import os, signal, sys
from vi_dist.tracking.records import Metrics, RunEnded, RunStarted, SweepStarted
from vi_dist.tracking.tracker import Tracker

tracker = Tracker(sys.argv[1], sys.argv[2]).start()
tracker.write(SweepStarted("sweep-1", "demo", "demo sweep-1", {"steps": 4}))
tracker.write(RunStarted("k0", "name 0", {"seed": 0}))
tracker.write(RunStarted("k1", "name 1", {"seed": 1}))
tracker.write(RunEnded("k1", "finished", "all steps done", {"final/elbo": -1.0}))
with open(sys.argv[1] + "/records.jsonl", "a") as spool:
    spool.write('{"kind": "Note", "te')
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_driver_leaves_no_run_open_and_can_be_followed_by_another(
    output_dir: Path, sweeps: Any
) -> None:
    directory, uri = output_dir / "demo-1" / "spool", default_tracking_uri(output_dir)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    driver = subprocess.run([sys.executable, "-c", DRIVER, str(directory), uri], env=environment, check=False)
    assert driver.returncode == -signal.SIGKILL
    sweeps.wait_for(lambda: State.load(directory).ended)
    client = MlflowClient(uri)
    stored = sweeps.stored(client, "demo")
    before = stored.children()
    assert {key: run.info.status for key, run in before.items()} == {"k0": "KILLED", "k1": "FINISHED"}
    assert before["k0"].data.tags["vi.reason"] == stored.parent().data.tags["vi.reason"] == "its driver died"
    assert stored.parent().info.status == "KILLED"

    tracker = Tracker(directory, uri).start()
    tracker.write(SweepStarted("sweep-1", "demo", "demo sweep-1", {"steps": 4}))
    tracker.write(RunStarted("k0", "name 0", {"seed": 0}, attempt=2))
    tracker.write(Metrics("k0", sweeps.curve(0, range(1, 5))))
    rival = Tracker(directory, uri).start()
    rival.write(Note("not mine to write"))
    assert "another process is tracking this sweep" in str(rival.close(timeout=1).error)
    summary = tracker.close()
    assert (summary.pending, summary.error) == (0, None)
    assert summary.run_ids == {key: run.info.run_id for key, run in before.items()}
    after = stored.children()
    assert after["k1"].info.status == "FINISHED"
    assert after["k0"].info.status == "KILLED"
    assert len(stored.points(after["k0"].info.run_id, "train/elbo")) == 4


def test_what_an_absent_store_missed_is_sent_by_sync(tmp_path: Path, output_dir: Path, sweeps: Any) -> None:
    # A store that cannot be opened stands for a server that is away: its file is a directory.
    database = tmp_path / "out" / "mlflow.db"
    database.mkdir(parents=True)
    directory = tmp_path / "out" / "demo-1"
    tracker = Tracker(directory / "spool", default_tracking_uri(tmp_path / "out")).start()
    records = sweeps.records(runs=2, points=4, experiment="demo")
    for record in records[:-1]:
        tracker.write(record)
    summary = tracker.close(timeout=0.1)
    assert summary.pending == len(records)
    assert tracker._process is not None
    tracker._process.kill()
    tracker._process.wait()
    database.rmdir()
    (output_dir / "mlflow.db").rename(database)
    summary = sync(directory)
    assert (summary.pending, summary.error) == (0, None)
    stored = sweeps.stored(MlflowClient(summary.tracking_uri), "demo")
    assert stored.parent().data.tags["vi.status"] == "interrupted"
    assert {run.info.status for run in stored.children().values()} == {"FINISHED"}


def test_a_store_that_lost_everything_gets_everything_again(
    output_dir: Path, schema: Path, sweeps: Any
) -> None:
    directory, database = output_dir / "demo-1", output_dir / "mlflow.db"
    tracker = Tracker(directory / "spool", default_tracking_uri(output_dir)).start()
    for record in sweeps.records(runs=2, points=4, experiment="demo"):
        tracker.write(record)
    assert tracker.close().pending == 0
    for emptied in (True, False):
        database.unlink()
        if emptied:
            shutil.copy(schema, database)
        summary = sync(directory)
        assert (summary.pending, summary.error) == (0, None)
        sweeps.check(sweeps.stored(MlflowClient(summary.tracking_uri), "demo"), runs=2, points=4)


def test_a_damaged_state_costs_a_replay_and_a_damaged_line_is_named(output_dir: Path, sweeps: Any) -> None:
    directory = output_dir / "demo-1"
    tracker = Tracker(directory / "spool", default_tracking_uri(output_dir)).start()
    for record in sweeps.records(runs=2, points=4, experiment="demo"):
        tracker.write(record)
    assert tracker.close().pending == 0
    spool = directory / "spool"
    state = spool / "state.json"
    state.write_bytes(state.read_bytes().replace(b'"offset": 1', b'"offset": 9'))
    lines = (spool / "records.jsonl").read_bytes().splitlines(keepends=True)
    place = next(number for number, line in enumerate(lines) if b'"train/' in line)
    lines[place] = lines[place].replace(b'"train/', b'"drain/')
    (spool / "records.jsonl").write_bytes(b"".join(lines))
    summary = sync(directory)
    assert summary.pending == 0
    assert "does not match its checksum" in str(summary.error)
    sweeps.check(sweeps.stored(MlflowClient(summary.tracking_uri), "demo"), runs=2, points=4)
    (spool / "tracker.json").write_bytes(b"")
    with pytest.raises(DamagedFile, match=r"tracker\.json: is damaged: it is empty; give the store again"):
        sync(directory)
    assert sync(directory, tracking_uri=summary.tracking_uri).pending == 0


def test_a_tracker_never_raises(tmp_path: Path, sweeps: Any) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    tracker = Tracker(in_the_way / "spool", "sqlite:////nowhere/mlflow.db").start()
    for record in sweeps.records(runs=1, points=2, experiment="demo"):
        tracker.write(record)
    summary = tracker.close()
    assert summary.experiment_id is None
    assert "could not start" in str(summary.error)


def test_a_writer_that_cannot_run_is_given_up(
    tmp_path: Path, sweeps: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    tracker = Tracker(tmp_path / "spool", "sqlite:////nowhere/mlflow.db").start()
    tracker.write(SweepStarted("s", "demo", "demo"))
    for _ in range(6):
        assert tracker._process is not None
        tracker._process.wait()
        tracker._next_start = 0.0
        tracker.write(SweepEnded("failed"))
    summary = tracker.close()
    assert summary.pending == 7
    assert f"see {tmp_path / 'spool' / LOG}" in str(summary.error)
