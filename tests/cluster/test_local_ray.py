"""Our own Ray: who can reach it, what it leaves behind, and that its start can be interrupted and can fail."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from vi_dist.cluster.local_ray import LocalRay
from vi_dist.errors import SpecError
from vi_dist.tracking.lock import FileLock

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc"),
]

REACH = """
import json, os, stat, subprocess, sys

import ray
import psutil

from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.ray_executor import RayExecutor
from vi_dist.cluster.setup import Setup

STRANGER = '''
import sys
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.ray_executor import RayExecutor
from vi_dist.cluster.setup import Setup
from vi_dist.errors import SpecError
executor = RayExecutor(sys.argv[1], max_actors=1)
try:
    executor.open(Setup(BuildSource(path=sys.argv[2])), 1)
    executor.close()
    print("let in")
except SpecError as fault:
    print(fault)
'''

def ask(**environment):
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, ray.get_runtime_context().gcs_address, sys.argv[1]],
        env={**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", **environment}, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr

executor = RayExecutor(max_actors=1, cpus=1)
executor.prepare()
executor.open(Setup(BuildSource(path=sys.argv[1])), 1)
call = executor.submit(0, "place")
executor.wait([call], 120.0)
actor = psutil.Process(executor.result(call).pid)
environment = actor.environ()
(folder,) = (os.path.join(sys.argv[2], name) for name in os.listdir(sys.argv[2]))
mine = psutil.Process()
found = {
    "mode": stat.S_IMODE(os.stat(folder).st_mode),
    "listening": sorted({
        (process.name(), connection.laddr.ip)
        for process in (mine, *mine.children(recursive=True))
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }),
    "environment": {name: environment[name] for name in ("OMP_NUM_THREADS", "MKL_CBWR")},
    "owner": ask(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=environment["RAY_AUTH_TOKEN"]),
    "stranger": ask(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="another-token-0123456789"),
    "nobody": ask(RAY_AUTH_MODE="disabled"),
}
(raylet,) = (process for process in mine.children() if process.name() == "raylet")
raylet.kill()
try:
    for _ in range(200):
        executor.wait([executor.submit(0, "place")], 0.1)
except RuntimeError as fault:
    found["died"] = str(fault)
executor.close()
print(json.dumps({
    **found,
    "processes_left": [process.name() for process in mine.children(recursive=True)],
    "folder_left": os.path.exists(folder),
    "home": os.listdir(os.environ["HOME"]),
    "auth_mode": os.environ.get("RAY_AUTH_MODE"),
}))
"""


def run(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@pytest.fixture(scope="module")
def reach(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the program above finds about a local Ray with one actor."""
    home = tmp_path_factory.mktemp("home")
    model = tmp_path_factory.mktemp("model") / "model.py"
    model.write_text("from vi_dist import Model\n\n\ndef build():\n    return Model([], {})\n")
    temporary = tempfile.mkdtemp(prefix="vr")  # sockets have short names
    settings = {"HOME": str(home), "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": temporary}
    settings |= {"OMP_NUM_THREADS": "7", "MKL_CBWR": "COMPATIBLE"}
    done = run(REACH, f"{model}:build", temporary, **settings)
    shutil.rmtree(temporary)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_only_this_machine_can_reach_it(reach: dict[str, Any]) -> None:
    addresses = {address.removeprefix("::ffff:") for _, address in reach["listening"]}
    assert addresses == {"127.0.0.1"}, reach["listening"]
    assert {"gcs_server", "raylet", "ray::PackActor"} <= {name for name, _ in reach["listening"]}


def test_actors_have_their_environment_from_the_start(reach: dict[str, Any]) -> None:
    """Not only from Ray's first task on: libraries read it when they are imported."""
    assert reach["environment"] == {"OMP_NUM_THREADS": "1", "MKL_CBWR": "AUTO"}


def test_whoever_has_another_token_or_none_is_refused(reach: dict[str, Any]) -> None:
    assert reach["owner"].endswith("let in")
    for refused in (reach["stranger"], reach["nobody"]):
        assert "asks for a token" in refused and "RAY_AUTH_TOKEN" in refused


def test_its_files_are_the_users_alone_and_gone_at_the_end(reach: dict[str, Any]) -> None:
    assert reach["mode"] == 0o700
    assert not reach["folder_left"] and not reach["processes_left"]
    assert reach["home"] == [], "the user's own token is not touched"
    assert reach["auth_mode"] == "disabled", "nor is her environment"


def test_a_raylet_that_dies_is_told_in_one_sentence(reach: dict[str, Any]) -> None:
    assert "raylet on this machine died (exit code -9)" in reach["died"]
    assert "vi-dist resume" in reach["died"]


def processes_naming(word: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word in (folder / "cmdline").read_text():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


SPEC = """
name: toy
model: toy.py:build
data: y.npz
space: {seed: [0, 1]}
steps: 30
compile: never
evaluation: {samples: 64}
executor: ray
"""


def test_ctrl_c_is_heard_while_it_starts(tmp_path: Path) -> None:
    """By a process that is waiting for Ray and by one that is importing torch meanwhile."""
    shutil.copy(Path(__file__).with_name("toy.py"), tmp_path)
    (tmp_path / "sweep.yaml").write_text(SPEC)
    np.savez(tmp_path / "y.npz", y=np.array([0.3, 1.7, 2.2, 0.9, 1.4, 2.8]))
    temporary = tempfile.mkdtemp(prefix="vr")  # sockets have short names
    program = "from vi_dist.cli.main import main; main()"
    sweep = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program, "sweep", "sweep.yaml"],
        cwd=tmp_path,
        env={**os.environ, "RAY_TMPDIR": temporary},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not processes_naming(temporary):
            assert sweep.poll() is None
            time.sleep(0.02)
        sweep.send_signal(signal.SIGINT)
        _, said = sweep.communicate(timeout=100)
        assert sweep.returncode == 130, said
        deadline = time.monotonic() + 20
        while left := processes_naming(temporary):
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
        assert os.listdir(temporary) == []
    finally:
        sweep.kill()
        shutil.rmtree(temporary, ignore_errors=True)


def test_a_ray_that_does_not_come_up_is_given_up_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_deep = tmp_path / ("deep" * 25)  # for the names of sockets
    for name in ("vi-dist-ray-held", "vi-dist-ray-left"):
        (too_deep / name).mkdir(parents=True)
        (too_deep / name / "lock").touch()
    held = FileLock(too_deep / "vi-dist-ray-held" / "lock")
    assert held.acquire()
    monkeypatch.setenv("RAY_TMPDIR", str(too_deep))
    session = LocalRay({})
    try:
        with pytest.raises(SpecError, match=r"did not come up here in 3 tries \(.*executor: inline"):
            session.wait(120.0)
    finally:
        session.close()
        held.release()
    assert os.listdir(too_deep) == ["vi-dist-ray-held"], (
        "what a killed process left is removed by the next one"
    )


def test_a_ray_that_does_not_come_up_leaves_another_one_alone(
    local_ray: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_deep = tmp_path / ("deep" * 25)
    too_deep.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(too_deep))
    session = LocalRay({})
    try:
        with pytest.raises(SpecError, match="did not come up"):
            session.wait(120.0)
    finally:
        session.close()
    assert ray.cluster_resources()["CPU"] > 0
