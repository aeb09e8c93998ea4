"""Looking at a sweep in MLflow's pages: a lean server on loopback, or the address of the one there is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from vi_dist.tracking.environment import (
    child_environment,
    database,
    is_served,
    open_private,
    python_module,
    schema_lock,
    without_credentials,
)
from vi_dist.tracking.state import State
from vi_dist.tracking.sync import find_spool, stored_uri
from vi_dist.tracking.views import comparison_url

HOST = "127.0.0.1"
START_SECONDS = 90.0


@dataclass
class Server:
    """A place to look at a sweep; a context manager that ends the server if it is ours.

    Args:
        base: the server's address.
        url: the page that compares the sweep's configurations.
        process: the server, in a process group of its own; None for a server that was there before.
    """

    base: str
    url: str
    process: subprocess.Popen[bytes] | None = None

    def wait(self) -> None:
        """Block until the server ends."""
        if self.process is not None:
            self.process.wait()

    def close(self) -> None:
        """End the server and its workers."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *fault: object) -> None:
        self.close()


def serve(directory: Path | str, port: int = 0) -> Server:
    """A server on loopback for the sweep's store, ready to answer; none is started if it has one.

    Args:
        directory: a sweep's directory, or an output directory (its newest sweep).
        port: where to listen; 0 takes a free one.

    Raises:
        FileNotFoundError: no sweep was tracked there, or nothing of it is stored yet.
        RuntimeError: the server does not start; the message ends with its last words.
    """
    spool = find_spool(directory)
    uri, state = stored_uri(spool), State.load(spool)
    if not state.experiment_id:
        raise FileNotFoundError(f"nothing of the sweep in {spool.parent} is in MLflow yet")
    if is_served(uri):
        base = without_credentials(uri)
        return Server(base, _page(base, state))
    port = port or _free_port()
    base = f"http://{HOST}:{port}"
    server = Server(base, _page(base, state), _start(uri, port, spool / "ui.log"))
    _await(server, spool / "ui.log")
    return server


def where_to_look(directory: Path | str) -> str:
    """What to tell the user: the comparison's URL where a server runs, else the command that opens it.

    Raises:
        FileNotFoundError: no sweep was tracked there.
    """
    spool = find_spool(directory)
    uri, state = stored_uri(spool), State.load(spool)
    if is_served(uri) and state.experiment_id:
        return _page(without_credentials(uri), state)
    sweep = spool.parent if spool.name == "spool" else spool
    return f"vi-dist ui {sweep}"


def _page(base: str, state: State) -> str:
    return comparison_url(base, state.experiment_id, state.sweep, views=state.views)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _start(uri: str, port: int, log: Path) -> subprocess.Popen[bytes]:
    """One worker and no job runner: 2 processes and half a gigabyte where the default takes 10 and two."""
    file = database(uri)
    if file is None:
        store = Path(uri)
    else:
        store = file.parent
        lock = schema_lock(file)
        lock.wait()
        lock.release()
    options = {"--host": HOST, "--port": str(port), "--workers": "1"}
    options["--artifacts-destination"] = str(store / "mlartifacts")
    environment = {
        **child_environment(uri),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Not on the command line, which everybody on this machine can read: it may hold a password.
        "MLFLOW_BACKEND_STORE_URI": uri,
    }
    command = python_module("mlflow", "server", *(word for pair in options.items() for word in pair))
    with open_private(log, "wb") as output:
        return subprocess.Popen(
            command,
            cwd=log.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _await(server: Server, log: Path) -> None:
    """Return when the server answers.

    Raises:
        RuntimeError: it ended, or does not answer in time.
    """
    deadline = time.monotonic() + START_SECONDS
    while server.process is not None and server.process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(f"{server.base}/health", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    server.close()
    last_words = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"the MLflow server did not start on {server.base}: {last_words}")
