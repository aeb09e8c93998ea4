"""Sweeps as jobs on a Ray cluster that was started by hand, with a token, from a folder that has nothing of ours."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

import vi_dist
from vi_dist.report.sweep_directory import find_sweep

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-the-tests-0123456789"
SPEC = """
name: toy
model: model.py:build
data: y.npz
space: {guide: [mean_field], seed: [0, 1, 2, 3]}
steps: 30
num_samples: 4
compile: never
evaluation: {samples: 64}
"""


def _free_ports(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """The address of a cluster of one node, which knows nothing of this folder and asks for a token."""
    port, web, client = _free_ports(3)
    # Sockets have short names: pytest's own folders are too deep for Ray.
    session = tempfile.mkdtemp(prefix="vr")
    tools = Path(sys.executable).parent
    quiet = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "HOME": session,
    }
    environment = {**os.environ, **quiet, "PATH": f"{tools}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    command = [str(tools / "ray"), "start", "--head", "--block", f"--port={port}", f"--dashboard-port={web}"]
    command += [
        f"--ray-client-server-port={client}",
        "--dashboard-agent-listen-port=0",
        f"--temp-dir={session}",
    ]
    command += ["--num-cpus=2", f"--object-store-memory={100 * 2**20}"]
    with Path(session, "head.log").open("wb") as log:
        head = subprocess.Popen(
            command, cwd=session, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    address = f"http://127.0.0.1:{web}"
    try:
        _wait(lambda: _answers(address) or head.poll() is not None)
        assert head.poll() is None, Path(session, "head.log").read_text()
        yield address
    finally:
        head.send_signal(signal.SIGTERM)  # it ends what it started
        head.wait(60)
        shutil.rmtree(session, ignore_errors=True)


def _answers(address: str) -> bool:
    try:
        with urlopen(f"{address}/api/version", timeout=2):
            return True
    except HTTPError:
        return True  # it asks for the token
    except OSError:
        return False


def _of_job(address: str, job_id: str) -> dict[str, str]:
    """What Ray knows of a job, asked for in this process: a command takes seconds to start."""
    request = Request(f"{address}/api/jobs/{job_id}", headers={"Authorization": f"Bearer {TOKEN}"})
    with urlopen(request, timeout=30) as answer:
        found: dict[str, str] = json.load(answer)
        return found


def _log(address: str, job_id: str) -> str:
    """What a job has said."""
    return _of_job(address, f"{job_id}/logs")["logs"]


def _wait(condition: Callable[[], object], seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A spec, its model and its data."""
    shutil.copy(Path(__file__).with_name("toy.py"), tmp_path / "model.py")
    (tmp_path / "sweep.yaml").write_text(SPEC)
    np.savez(tmp_path / "y.npz", y=np.array([0.3, 1.7, 2.2, 0.9, 1.4, 2.8]))
    return tmp_path


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(dashboard: str, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The command line from a folder that has nothing in it, with the cluster's token."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run(*arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
        ours = {"PYTHONPATH": str(Path(vi_dist.__file__).parents[1]), "RAY_API_SERVER_ADDRESS": dashboard}
        environment = {**os.environ, **ours, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        program = [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            "from vi_dist.cli.main import main; main()",
            *arguments,
        ]
        return subprocess.run(
            program, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=400, check=False
        )

    return run


def test_a_submitted_sweep_is_followed_to_its_leaderboard(
    dashboard: str, command: Command, folder: Path
) -> None:
    target = f"file://{folder}/bucket"
    done = command("submit", str(folder / "sweep.yaml"), "--output-dir", target, "--follow", "--champion")
    assert done.returncode == 0, done.stderr
    job_id = done.stdout.splitlines()[0]
    assert "4 configurations: 4 finished" in done.stdout and "best: " in done.stdout
    found = find_sweep(folder / "bucket")
    assert pd.read_parquet(found / "leaderboard.parquet")["status"].eq("finished").all()
    assert (found / "report.html").is_file()
    told = json.loads(command("status", "--json").stdout)
    assert [(job["id"], job["sweep"], job["status"]) for job in told] == [(job_id, "toy", "SUCCEEDED")]
    assert _of_job(dashboard, job_id)["entrypoint"].endswith(" --champion")


def test_a_stopped_sweep_keeps_what_was_fitted_and_is_resumed_by_its_last_words(
    dashboard: str, command: Command, folder: Path
) -> None:
    target = f"file://{folder}/bucket"
    space = "space={guide: [mean_field], steps: [20, 8000]}"
    arguments = ("--set", space, "--set", "pack_size=1", "--output-dir", target)
    job_id = command("submit", str(folder / "sweep.yaml"), *arguments).stdout.strip()
    _wait(lambda: "1/2 configurations" in _log(dashboard, job_id))
    assert " left" in command("status", job_id).stdout
    stopped = command("stop", job_id)
    assert (stopped.returncode, stopped.stdout) == (0, f"{job_id} is stopped\n"), stopped.stderr
    told = stopped.stderr
    assert "2 configurations: 1 finished, 1 interrupted" in told
    assert (
        "interrupted: 1 ended and kept; not evaluated, so without ELBO, k-hat and guide: 1 under way" in told
    )
    status = command("status", job_id).stdout
    assert "STOPPED" in status and "the sweep is over (exit code 130)" in status
    found = find_sweep(folder / "bucket")
    assert pd.read_parquet(found / "leaderboard.parquet")["status"].tolist() == ["finished", "interrupted"]
    client = MlflowClient(f"sqlite:///{found}/mlflow.db")
    (experiment,) = (one for one in client.search_experiments() if one.name == "toy")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.status for run in runs) == ["FINISHED", "KILLED", "KILLED"]
    assert command("stop", job_id).returncode == 2
    (line,) = (line for line in told.splitlines() if line.endswith("takes the steps that are left"))
    place, words = line.removesuffix("takes the steps that are left").split(": ", 1)
    assert place == f"on {socket.gethostname()}, as long as it lives"
    resumed = subprocess.run(
        [str(Path(sys.executable).parent / "ray"), *words.split()[1:]],
        env={
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "RAY_API_SERVER_ADDRESS": dashboard,
        },
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    frame = pd.read_parquet(find_sweep(folder / "bucket") / "leaderboard.parquet")
    assert frame["status"].tolist() == ["finished"] * 2 and sorted(frame["steps"]) == [20, 8000]


def test_a_wrong_token_and_an_unknown_job_are_told(command: Command) -> None:
    refused = command("status", token="another-token-0123456789")
    assert refused.returncode == 2
    assert "asks for a token" in refused.stderr and "RAY_AUTH_TOKEN" in refused.stderr
    unknown = command("status", "nobody")
    assert unknown.returncode == 2 and "'nobody' is no sweep on http://127.0.0.1" in unknown.stderr
