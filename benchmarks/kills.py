"""Kill a sweep's processes at random moments, resume or sync it, and compare everything with the undisturbed sweep.

A small sweep with successive halving runs on a local Ray. Each round kills one kind of process with SIGKILL, at a
moment drawn from the whole time between the plan and the leaderboard:

    driver   the command itself; then vi-dist resume
    actor    one of the workers
    raylet   the process that holds the workers; then vi-dist resume
    writer   the process that writes to MLflow
    server   an MLflow server to which the sweep writes, started again a moment later; then vi-dist sync if it is needed
    all      every process of the sweep, and the server; then vi-dist resume

Then the leaderboard, rungs, curves and guides must be bitwise those of the undisturbed sweep, no run may be left
RUNNING in MLflow, and MLflow must hold every point of every metric once. Only processes that this command started are
killed, each by its id. Linux only.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import tables
from benchmarks.kills_store import Points, Server, points, statuses
from benchmarks.line_model import MODEL

KINDS = ("driver", "actor", "raylet", "writer", "server", "all")
COLUMNS = ("kind", "times", "killed", "equal", "resumed", "synced", "RUNNING", "lost", "doubled", "seconds")
PATIENCE_SECONDS = 300.0
SPEC = """
name: kills
model: model.py:build
data: data.npz
space: {guide: [mean_field, full_rank], learning_rate: [0.003, 0.01, 0.03], seed: [0, 1, 2, 3]}
halving: {eta: 2, min_steps: 150}
steps: 600
num_samples: 4
compile: never
pack_size: 6
evaluation: {samples: 256}
max_actors: 2
"""
APART = ["seconds", "run_id"]
"""Columns of the leaderboard that no two sweeps share."""


def main() -> None:
    """Run the rounds and print one row for each kind."""
    parser = tables.parser_of(__doc__)
    parser.add_argument("--times", type=int, default=100, help="rounds, shared evenly among the kinds")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of {','.join(KINDS)}")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    kinds = arguments.kinds.split(",")
    with _folder() as folder:
        rounds = Rounds(folder, arguments)
        for number, kind in zip(range(arguments.times), itertools.cycle(kinds), strict=False):
            rounds.play(number, kind)
        rounds.end()
    rows = [rounds.row(kind) for kind in kinds]
    print(tables.text(rows, COLUMNS))
    tables.write(rows, arguments.out)
    sys.exit(
        any(row["equal"] < row["times"] or row["RUNNING"] or row["lost"] or row["doubled"] for row in rows)
    )


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder with the spec, its model and its data, in which Ray's files are too."""
    folder = Path(tempfile.mkdtemp(prefix="vk"))  # sockets have short names
    os.environ["RAY_TMPDIR"] = str(folder)
    random_ = np.random.default_rng(0)
    x = random_.normal(size=50)
    (folder / "model.py").write_text(MODEL)
    (folder / "sweep.yaml").write_text(SPEC)
    np.savez(folder / "data.npz", x=x, y=0.5 + 1.5 * x + random_.normal(size=50))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Found:
    """What a sweep left: its tables without what no two sweeps share, its guides, and what MLflow holds of it."""

    tables: dict[str, pd.DataFrame]
    guides: dict[str, bytes]
    points: Points

    def same(self, other: Found) -> bool:
        """Whether tables and guides are bitwise equal."""
        equal = [self.tables[name].equals(table) for name, table in other.tables.items()]
        return all(equal) and self.guides == other.guides


class Rounds:
    """The undisturbed sweep, and rounds of killing.

    Args:
        folder: of the spec.
        arguments: the command's.
    """

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        self._folder, self._random = folder, random.Random(arguments.seed)
        self._server: Server | None = None
        self._counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        _import_once()
        sweep = Command(folder, "sweep", "sweep.yaml", "--output-dir", "whole")
        directory, began = sweep.planned(folder / "whole"), time.monotonic()
        sweep.wait()
        self._span = time.monotonic() - began
        self._whole = _found(directory, folder / "whole" / "mlflow.db", "kills")
        print(f"the undisturbed sweep took {self._span:.1f} s from its plan on", flush=True)

    def play(self, number: int, kind: str) -> None:
        """One round: sweep, kill, resume or sync, compare."""
        began, count = time.monotonic(), self._counts[kind]
        output, name = self._folder / f"round{number}", "kills"
        words = ["sweep", "sweep.yaml", "--output-dir", str(output)]
        store = output / "mlflow.db"
        if kind in ("server", "all"):
            server, name = self._running_server(), f"kills{number}"
            words += ["--tracking-uri", server.uri, "--set", f"name={name}"]
            store = server.store
        sweep = Command(self._folder, *words)
        directory = sweep.planned(output)
        moment = self._random.random() * self._span
        count["killed"] += self._kill(kind, sweep, moment)
        sweep.wait()
        if (directory / "journal").is_dir():
            count["resumed"] += 1
            Command(
                self._folder,
                "resume",
                str(directory),
                "--executor",
                self._random.choice(["ray", "inline", "inline"]),
            ).wait()
        if "sync" in (self._folder / "log").read_text().rpartition("results:")[2]:
            count["synced"] += 1
            Command(self._folder, "sync", str(directory)).wait()
        count.update(self._judge(directory, store, name, f"round {number}: {kind} at {moment:.1f} s"))
        count.update(times=1, seconds=round(time.monotonic() - began))
        shutil.rmtree(output, ignore_errors=True)

    def end(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.kill()

    def row(self, kind: str) -> dict[str, Any]:
        """One row of the table; seconds are those of a round on the mean."""
        count = self._counts[kind]
        return {
            **{name: count[name] for name in COLUMNS},
            "kind": kind,
            "seconds": count["seconds"] / max(count["times"], 1),
        }

    def _running_server(self) -> Server:
        self._server = self._server or Server(self._folder)
        return self._server

    def _kill(self, kind: str, sweep: Command, moment: float) -> bool:
        """Kill the processes of a kind after so many seconds; returns whether one was there."""
        deadline = time.monotonic() + moment
        while time.monotonic() < deadline and not sweep.over():
            time.sleep(0.02)
        targets: list[int] = []
        while kind != "server" and not targets and not sweep.over():
            time.sleep(0.02)  # it may have to start first
            targets = sweep.processes(kind)[: 1 if kind == "actor" else None]
        for pid in targets:
            _kill(pid)
        if kind in ("server", "all") and self._server is not None:
            self._server.kill()
            time.sleep(1.0)
            self._server.start()
        return bool(targets) or (kind == "server" and not sweep.over())

    def _judge(self, directory: Path, store: Path, name: str, what: str) -> dict[str, int]:
        """How what a round left compares with what the undisturbed sweep left."""
        try:
            found = _found(directory, store, name)
        except Exception as fault:
            print(f"{what}: {type(fault).__name__}: {fault}\n{self._log()}", flush=True)
            return {}
        whole = self._whole.points
        lost, doubled = whole - found.points, found.points - whole
        counts = {
            "equal": int(found.same(self._whole)),
            "lost": lost.total(),
            "doubled": doubled.total(),
            "RUNNING": statuses(store, name)["RUNNING"],
        }
        good = counts == {"equal": 1, "lost": 0, "doubled": 0, "RUNNING": 0}
        print(f"{what}: {'equal' if good else counts}", flush=True)
        if not good:
            print(f"lost {list(lost)[:5]}, doubled {list(doubled)[:5]}\n{self._log()}", flush=True)
        return counts

    def _log(self) -> str:
        return (self._folder / "log").read_text()[-1500:]


class Command:
    """A vi-dist command in a process of its own, forked from this one, which has imported what commands import.

    Args:
        folder: where it runs, and keeps what it says in the file ``log``.
        words: the command.
    """

    def __init__(self, folder: Path, *words: str) -> None:
        self._words, self._code = words, None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(folder, words)

    def over(self) -> bool:
        """Whether it has ended."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code is not None

    def wait(self) -> None:
        """Return when it has ended. Raises `TimeoutError` after many minutes."""
        self._until(self.over, "ended")

    def planned(self, output: Path) -> Path:
        """The directory of its sweep, once its plan is there."""
        self._until(lambda: self.over() or list(output.glob("*/plan.json")), "planned")
        (plan,) = output.glob("*/plan.json")
        return plan.parent

    def processes(self, kind: str) -> list[int]:
        """Its processes of a kind."""
        commands = {pid: _command(pid) for pid in _descendants(self.pid)}
        chosen: dict[str, Callable[[str], bool]] = {
            "actor": lambda command: command.startswith("ray::PackActor"),
            "raylet": lambda command: command.partition(" ")[0].endswith("/raylet"),
            "writer": lambda command: "vi_dist.tracking.writer" in command,
        }
        if kind == "driver":
            return [self.pid]
        if kind == "all":
            return [self.pid, *commands]
        return [pid for pid, command in commands.items() if kind in chosen and chosen[kind](command)]

    def _until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"vi-dist {' '.join(self._words)} has not {what} in {PATIENCE_SECONDS:.0f} s"
                )
            time.sleep(0.02)


def _import_once() -> None:
    """Import what every command would import again, except Ray, whose threads no fork survives."""
    for name in (
        "torch._dynamo",
        "matplotlib.pyplot",
        "arviz",
        "vi_dist.api.sweeping",
        "vi_dist.report.page",
    ):
        import_module(name)


def _become(folder: Path, words: tuple[str, ...]) -> None:
    """Make this process the command; it does not return."""
    import atexit

    from vi_dist.cli.main import main as command

    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        sys.argv = ["vi-dist", *words]
        command()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        atexit._run_exitfuncs()
        os._exit(code)


def _found(directory: Path, store: Path, name: str) -> Found:
    files = {path.stem: pd.read_parquet(path) for path in directory.glob("*.parquet")}
    files["leaderboard"] = files["leaderboard"].drop(columns=APART)
    guides = {path.name: path.read_bytes() for path in sorted((directory / "guides").iterdir())}
    return Found(files, guides, points(store, name))


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, _text(task).split()):
            found += [child, *_descendants(child)]
    return found


def _command(pid: int) -> str:
    return _text(Path(f"/proc/{pid}/cmdline")).replace("\0", " ")


def _text(path: Path) -> str:
    """What a file of /proc says; nothing if its process has ended."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    main()
