"""A password reaches the server that it is for, and no file that others may read, no output and no other server."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from vi_dist.cli.main import app
from vi_dist.errors import SpecError
from vi_dist.tracking.environment import (
    check_server_named,
    child_environment,
    credentials_to_environment,
    same_server,
)

PASSWORD = "s3cr3t w0rd"
WRITTEN = "s3cr3t%20w0rd"
MODEL = """
import torch
from torch.distributions import Normal
from vi_dist import Model, random_variable

@random_variable
def mu():
    return Normal(0.0, 1.0)

@random_variable
def y():
    return Normal(mu(), torch.ones(3))

def build(data):
    return Model([mu()], {y(): torch.tensor([1.0, 2.0, 3.0])})
"""
SPEC = """
name: secret
model: model.py:build
space: {seed: [0, 1]}
steps: 30
num_samples: 2
executor: inline
compile: never
evaluation: {samples: 64}
"""


class Guard(ThreadingHTTPServer):
    """A proxy that asks for a user and a password, in front of a server that does not."""

    daemon_threads = True

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Guarding)
        self.behind = behind
        self.seen: list[str | None] = []
        self.address = f"127.0.0.1:{self.server_address[1]}"


class _Guarding(BaseHTTPRequestHandler):
    server: Guard

    def _pass_on(self) -> None:
        shown = self.headers.get("Authorization")
        self.server.seen.append(shown)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if shown != "Basic " + base64.b64encode(f"ada:{PASSWORD}".encode()).decode():
            return self._answer(401, b"who are you?", "text/plain")
        kept = {name: self.headers[name] for name in ("Content-Type", "Accept") if name in self.headers}
        request = Request(self.server.behind + self.path, body or None, kept, method=self.command)
        try:
            with urlopen(request, timeout=60) as answer:
                self._answer(answer.status, answer.read(), answer.headers.get_content_type())
        except HTTPError as error:
            self._answer(error.code, error.read(), error.headers.get_content_type())

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815 - names of http.server

    def log_message(self, *words: Any) -> None:
        """Say nothing."""


@pytest.fixture
def guard(server: Any) -> Iterator[Guard]:
    guard = Guard(server.uri)
    threading.Thread(target=guard.serve_forever, daemon=True).start()
    yield guard
    guard.shutdown()
    guard.server_close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "sweep.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def vi_dist(*arguments: str) -> str:
    """The command line in this process; what it says on both streams."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.stderr
    return done.stdout + done.stderr


def files_with(folder: Path, *texts: str) -> dict[str, int]:
    """The files that hold one of the texts, with their modes."""
    found = {}
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if any(text.encode() in content for text in texts):
            found[path.name] = path.stat().st_mode & 0o777
    return found


def test_a_password_reaches_its_server_and_nobody_else(folder: Path, guard: Guard, server: Any) -> None:
    uri = f"http://ada:{WRITTEN}@{guard.address}"
    said = [vi_dist("sweep", "sweep.yaml", "--tracking-uri", uri, "--json", "--debug")]
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("secret")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.status for run in runs) == ["FINISHED"] * 3
    for run in runs:
        assert PASSWORD not in str(run.to_dictionary()) and WRITTEN not in str(run.to_dictionary())
    (directory,) = (folder / "vi-dist-out").glob("secret-*")
    said += [vi_dist(name, str(directory)) for name in ("leaderboard", "report", "sync")]
    assert not any(PASSWORD in text or WRITTEN in text for text in said)
    held = files_with(folder / "vi-dist-out", PASSWORD, WRITTEN)
    assert held == {"tracker.json": 0o600, "secrets.json": 0o600}
    assert set(filter(None, guard.seen)) == {"Basic " + base64.b64encode(f"ada:{PASSWORD}".encode()).decode()}


def test_nor_does_a_fault_of_the_server_tell_it(tmp_path: Path, guard: Guard) -> None:
    script = """
import sys
from vi_dist.tracking.records import SweepStarted
from vi_dist.tracking.tracker import Tracker

tracker = Tracker(sys.argv[1], sys.argv[2]).start()
tracker.write(SweepStarted("one", "secret", "one", {}, {}))
print(tracker.close(timeout=6))
"""
    for name, uri in (
        (
            "wrong",
            f"http://ada:{WRITTEN}x@{guard.address}",
        ),  # MLflow's refusal comes back as an exception's text
        ("away", f"http://ada:{WRITTEN}@127.0.0.1:1"),
        ("database", f"postgresql://ada:{WRITTEN}@127.0.0.1:1/mlflow"),
    ):
        command = [sys.executable, "-c", script, str(tmp_path / name), uri]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert WRITTEN not in done.stdout + done.stderr and PASSWORD not in done.stdout + done.stderr
        assert files_with(tmp_path / name, PASSWORD, WRITTEN) == {"tracker.json": 0o600}
        assert (tmp_path / name / "writer.log").stat().st_mode & 0o777 == 0o600


def test_a_directory_does_not_say_whom_a_token_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0k3n")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(SpecError, match="--tracking-uri http://elsewhere") as caught:
        check_server_named("http://elsewhere:5000", tmp_path)
    assert "t0k3n" not in str(caught.value)
    check_server_named("sqlite:////a.db", tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000/")
    check_server_named("http://elsewhere:5000", tmp_path)
    assert child_environment("http://elsewhere:5000")["MLFLOW_TRACKING_TOKEN"] == "t0k3n"
    assert "MLFLOW_TRACKING_TOKEN" not in child_environment("http://another:5000")


def test_a_password_is_taken_out_of_a_servers_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.setenv(name, "other")
    assert credentials_to_environment(f"https://ada:{WRITTEN}@head:5000/x") == "https://head:5000/x"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "ada"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == PASSWORD
    assert credentials_to_environment("https://t0k3n@head") == "https://head"
    assert os.environ["MLFLOW_TRACKING_TOKEN"] == "t0k3n"
    assert credentials_to_environment("sqlite:////a.db") == "sqlite:////a.db"


def test_which_addresses_are_one_server() -> None:
    assert same_server("https://head", "https://ada:x@HEAD:443/a")
    assert not same_server("https://head", "http://head")
    assert not same_server("http://head:5000", "http://head:5001")
    assert not same_server("", "http://head")
