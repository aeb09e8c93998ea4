"""Real stores: a sqlite schema made once and copied, MLflow servers on loopback, and what they hold."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient

from vi_dist.tracking.environment import child_environment, default_tracking_uri, python_module
from vi_dist.tracking.mirror import Mirror
from vi_dist.tracking.opening import open_store
from vi_dist.tracking.records import Metrics, Point, Record, RunEnded, RunStarted, SweepEnded, SweepStarted
from vi_dist.tracking.state import State
from vi_dist.tracking.store import Store

SWEEP = "sweep-1"
START_MS = 1_700_000_000_000


@pytest.fixture(scope="session")
def racers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[subprocess.CompletedProcess[bytes]]]:
    """A new sqlite store, and the two processes that opened it at once, when there was none yet."""
    directory = tmp_path_factory.mktemp("schema")
    script = "import sys; from vi_dist.tracking.opening import open_store; open_store(sys.argv[1])"
    command = [sys.executable, "-c", script, default_tracking_uri(directory)]
    both = [subprocess.Popen(command, env=child_environment(), stderr=subprocess.PIPE) for _ in range(2)]
    faults = [process.communicate()[1] for process in both]
    ended = [
        subprocess.CompletedProcess(command, process.returncode, stderr=fault)
        for process, fault in zip(both, faults, strict=True)
    ]
    return directory / "mlflow.db", ended


@pytest.fixture(scope="session")
def schema(racers: tuple[Path, object]) -> Path:
    """A sqlite store with nothing in it; making its schema takes seconds, so it is made once."""
    return racers[0]


@pytest.fixture
def output_dir(tmp_path: Path, schema: Path) -> Path:
    """An output directory with a store, under a name with a space."""
    directory = tmp_path / "vi dist out"
    directory.mkdir()
    shutil.copy(schema, directory / "mlflow.db")
    return directory


@pytest.fixture
def store(output_dir: Path) -> Store:
    return open_store(default_tracking_uri(output_dir))


@pytest.fixture
def mirror(store: Store) -> Mirror:
    return Mirror(store, State())


class LoopbackServer:
    """An MLflow server in a process group of its own, which can be killed and started again where it was."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        options += ["--backend-store-uri", default_tracking_uri(self.directory)]
        options += ["--artifacts-destination", str(self.directory / "served")]
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                python_module("mlflow", "server", *options),
                cwd=self.directory,
                env={**child_environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _wait_for(self.answers, seconds=120)

    def answers(self) -> bool:
        try:
            with urlopen(f"{self.uri}/health", timeout=2):
                return True
        except (URLError, OSError):
            return False

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, schema: Path) -> Iterator[LoopbackServer]:
    """One server for every test that needs one; whoever kills it starts it again."""
    directory = tmp_path_factory.mktemp("server")
    shutil.copy(schema, directory / "mlflow.db")
    server = LoopbackServer(directory)
    server.start()
    yield server
    server.kill()


@dataclass
class Stored:
    """What MLflow holds of one sweep."""

    client: MlflowClient
    experiment: str
    sweep: str = SWEEP

    @property
    def experiment_id(self) -> str:
        found = self.client.get_experiment_by_name(self.experiment)
        assert found is not None
        return str(found.experiment_id)

    def runs(self) -> list[Run]:
        """All runs, deleted ones not; a sweep of these tests has few enough for one page."""
        filter_string = f"tags.`vi.sweep` = '{self.sweep}'"
        return list(self.client.search_runs([self.experiment_id], filter_string, ViewType.ACTIVE_ONLY))

    def parent(self) -> Run:
        (parent,) = (run for run in self.runs() if run.data.tags["vi.role"] == "sweep")
        return parent

    def children(self) -> dict[str, Run]:
        """By key; no key twice."""
        runs = [run for run in self.runs() if run.data.tags["vi.role"] == "configuration"]
        children = {run.data.tags["vi.configuration"]: run for run in runs}
        assert len(children) == len(runs)
        return children

    def points(self, run_id: str, metric: str) -> Counter[tuple[int, float, int]]:
        """(step, value, timestamp) of every stored point, with how often it is there."""
        history = self.client.get_metric_history(run_id, metric)
        return Counter((point.step, point.value, point.timestamp) for point in history)


def _wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Return once the condition holds; fail when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.02)


class Sweeps:
    """Small sweeps whose every value is known, and what MLflow must hold of them."""

    wait_for = staticmethod(_wait_for)

    @staticmethod
    def curve(number: int, steps: range) -> list[Point]:
        """A curve whose values and times depend on the configuration's number and the step alone."""
        return [("train/elbo", step, -1000.0 * number - 1.0 / step, START_MS + 10 * step) for step in steps]

    def records(self, runs: int, points: int, experiment: str, sweep: str = SWEEP) -> list[Record]:
        """Every configuration starts, tells its curve in two parts, and finishes."""
        half, numbers, name = points // 2, range(runs), "mean_field-kl_reverse-lr0.01"
        return [
            SweepStarted(
                sweep, experiment, f"{experiment} {sweep}", {"steps": points}, {"mlflow.user": "ada"}
            ),
            *(RunStarted(f"k{n}", f"{name}-s{n}", {"seed": n}) for n in numbers),
            *(Metrics(f"k{n}", self.curve(n, range(1, half + 1))) for n in numbers),
            *(Metrics(f"k{n}", self.curve(n, range(half + 1, points + 1))) for n in numbers),
            *(RunEnded(f"k{n}", "finished", "all steps done", {"final/elbo": -float(n)}) for n in numbers),
            SweepEnded("finished", "all configurations done"),
        ]

    @staticmethod
    def stored(client: MlflowClient, experiment: str, sweep: str = SWEEP) -> Stored:
        return Stored(client, experiment, sweep)

    def check(self, stored: Stored, runs: int, points: int) -> None:
        """Every run once, every point once, everything closed."""
        children = stored.children()
        assert sorted(children) == sorted(f"k{n}" for n in range(runs))
        for n in range(runs):
            run = children[f"k{n}"]
            curve = self.curve(n, range(1, points + 1))
            expected = Counter((step, value, stamp) for _, step, value, stamp in curve)
            assert stored.points(run.info.run_id, "train/elbo") == expected
            assert run.info.status == "FINISHED"
            assert run.data.metrics["final/elbo"] == -n
        assert stored.parent().info.status == "FINISHED"


@pytest.fixture
def sweeps() -> Sweeps:
    return Sweeps()
