"""The MLflow side of `benchmarks.kills`: a server that can be killed, and what a store's database holds."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

Points = Counter[tuple[str, str, int, Any]]
"""How often a store holds (key of the configuration, metric, step, value); no value where it is a time."""

_RUNS = (
    "from runs join experiments on experiments.experiment_id = runs.experiment_id where experiments.name = ?"
)
_POINTS = """
select coalesce(tags.value, ''), metrics.key, metrics.step, metrics.value, metrics.is_nan
from metrics join runs on runs.run_uuid = metrics.run_uuid
join experiments on experiments.experiment_id = runs.experiment_id
left join tags on tags.run_uuid = runs.run_uuid and tags.key = 'vi.configuration'
where experiments.name = ?
"""


class Server:
    """``mlflow server`` on a database in a folder, in a process group of its own."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "server.db"
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self.start()
        deadline = time.monotonic() + 120
        while not self._answers():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no MLflow server answers at {self.uri}")
            time.sleep(0.2)

    def start(self) -> None:
        """Start it; it answers some seconds later."""
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self._port)),
                    *("--backend-store-uri", f"sqlite:///{self.store}"),
                    *("--artifacts-destination", str(self._folder / "artifacts")),
                ],
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill it and what it started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.uri}/health", timeout=2):
                return True
        except OSError:
            return False


def statuses(store: Path, name: str) -> Counter[str]:
    """How many runs of an experiment have each status."""
    with closing(sqlite3.connect(store)) as database:
        return Counter(status for (status,) in database.execute(f"select runs.status {_RUNS}", (name,)))


def points(store: Path, name: str) -> Points:
    """Every point of every metric in an experiment."""
    found: Points = Counter()
    with closing(sqlite3.connect(store)) as database:
        for key, metric, step, value, is_nan in database.execute(_POINTS, (name,)):
            timed = "second" in metric or metric.startswith(("wall/", "share/"))
            found[key, metric, step, None if timed else "nan" if is_nan else value] += 1
    return found
