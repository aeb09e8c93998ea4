"""Damage every file of a finished and of a killed sweep, run the commands that read it, and compare what they say.

A small sweep is run to its end, and once more until it is killed. Each file of their directories is cut, emptied,
overwritten in part with noise, has one bit flipped, has twenty flipped, or is replaced by a pickle that would leave a
file behind if anything loaded it, at as many places as `--places` says. Then

    finished    leaderboard, report, compare, doctor and Fit.load are run, and with `--resume` also resume and sync
    killed      resume is run to the end, and its tables, curves and guides are compared with those of the whole sweep

What a command says or leaves is

    same        what it is without damage
    named       something else, or an error, and the damaged file is named
    WRONG       neither
    ran         a planted pickle was loaded
"""

from __future__ import annotations

import logging
import os
import pickle
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from benchmarks import tables
from benchmarks.line_model import MODEL

KINDS = ("cut", "emptied", "noise", "one bit", "twenty bits", "pickle")
COLUMNS = ("sweep", "command", "cases", "same", "named", "WRONG", "ran")
# Locks and logs, which nothing reads back; what is only written for others; MLflow's own files.
UNREAD = (".lock", ".log", ".html", ".nc", "lock")
SPEC = """
name: damage
model: model.py:build
data: data.npz
space: {guide: [mean_field, full_rank], learning_rate: [0.01, 0.03]}
steps: 300
num_samples: 4
compile: never
executor: inline
evaluation: {samples: 256}
output_dir: out
"""
ROOT = Path(__file__).resolve().parent.parent
DEAD = 7
"""Exit code of a process that ended in the midst of a sweep."""


class Killed(BaseException):
    """The end of a driver's process."""


class Planted:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


def damaged(content: bytes, kind: str, generator: random.Random, mark: Path) -> bytes:
    """A file's content after it was damaged."""
    if kind == "pickle":
        return pickle.dumps(Planted(mark))
    if kind == "cut":
        return content[: generator.randrange(len(content))]
    if kind == "emptied":
        return b""
    noisy = bytearray(content)
    if kind == "noise":
        start = generator.randrange(len(content))
        noisy[start : start + 64] = generator.randbytes(len(noisy[start : start + 64]))
    else:
        for _ in range(1 if kind == "one bit" else 20):
            noisy[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    return bytes(noisy)


class Bench:
    """The two sweeps, and what the commands say of them.

    Args:
        folder: empty.
    """

    def __init__(self, folder: Path) -> None:
        import numpy as np

        self.folder, self.mark = folder, folder / "ran"
        self.said: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: self.said.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("vi_dist").addHandler(handler)
        (folder / "model.py").write_text(MODEL)
        (folder / "sweep.yaml").write_text(SPEC)
        generator = np.random.default_rng(0)
        x = generator.normal(size=40)
        np.savez(folder / "data.npz", x=x, y=1 + 2 * x + generator.normal(size=40))

    def sweep(self, chunks: int | None = None, dies: bool = False) -> Path:
        """Run the sweep, or kill it after so many reports of progress, with this process if it `dies`."""
        from vi_dist import Experiment

        left = [chunks]

        def kill(*_: Any) -> None:
            if left[0] is not None:
                left[0] -= 1
                if left[0] < 0:
                    if dies:
                        os._exit(DEAD)
                    raise Killed

        try:
            directory = Experiment.from_spec(self.folder / "sweep.yaml").sweep(progress=kill).directory
        except Killed:
            (directory,) = (path.parent for path in (self.folder / "out").glob("*/journal"))
        return directory

    def command(self, *words: str) -> tuple[str, str, int]:
        """What a command prints, all that it says, and its exit code; -1 for an exception that reached us."""
        from vi_dist.cli.main import app

        self.said.clear()
        done = CliRunner().invoke(app, list(words))
        crashed = done.exception is not None and not isinstance(done.exception, SystemExit)
        return done.stdout, f"{done.stderr}\n" + "\n".join(self.said), -1 if crashed else done.exit_code

    def looks(self, directory: Path) -> Iterator[tuple[str, Callable[[], tuple[str, str, int]]]]:
        """The commands that only read a sweep."""
        page, at = str(self.folder / "page.html"), str(directory)

        def written(*words: str) -> tuple[str, str, int]:
            Path(page).unlink(missing_ok=True)
            _, said, code = self.command(*words, "--output", page)
            return Path(page).read_text() if Path(page).exists() else "", said, code

        yield "leaderboard", lambda: self.command("leaderboard", at)
        yield "report", lambda: written("report", at)
        yield "compare", lambda: written("compare", at, "1", "2")
        yield "doctor", lambda: self.command("doctor", at)
        yield "Fit.load", lambda: self.load(directory)

    def load(self, directory: Path) -> tuple[str, str, int]:
        """The draws of the sweep's first kept fit."""
        from vi_dist import Fit, SpecError

        fit = min((directory / "fits").iterdir())
        try:
            loaded = Fit.load(fit, f"{self.folder / 'model.py'}:build", str(self.folder / "data.npz"))
            return str({name: values.tolist() for name, values in loaded.sample(3).items()}), "", 0
        except SpecError as error:
            return "", str(error), 2

    def resume(self, directory: Path) -> tuple[str, str, int]:
        """What is left behind by a resumed sweep: tables without times, curves, guides."""
        _, said, code = self.command("resume", str(directory))
        return _left(directory), said, code


def _left(directory: Path) -> str:
    import pandas as pd

    try:
        frame = pd.read_parquet(directory / "leaderboard.parquet").drop(columns=["seconds", "run_id"])
        curves = pd.read_parquet(directory / "curves.parquet").to_csv()
        guides = [
            (file.name, file.read_bytes()) for file in sorted((directory / "guides").glob("*.safetensors"))
        ]
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}"
    return f"{frame.to_csv()}{curves}{guides}"


def outcome(found: tuple[str, str, int], expected: tuple[str, str, int], file: Path, mark: Path) -> str:
    """What became of a command on a damaged file."""
    if mark.exists():
        mark.unlink()
        return "ran"
    printed, said, code = found
    if code == expected[2] and printed == expected[0]:
        return "same"
    return "named" if code != -1 and file.name in printed + said else "WRONG"


def cases(directory: Path, places: int, seed: int) -> Iterator[tuple[Path, str, random.Random]]:
    """Every file of a sweep with every kind of damage."""
    for file in sorted(directory.rglob("*")):
        if not file.is_file() or not file.stat().st_size or file.name.endswith(UNREAD):
            continue
        for kind in KINDS:
            for place in range(1 if kind in ("emptied", "pickle") else places):
                yield file, kind, random.Random(f"{seed} {file.relative_to(directory)} {kind} {place}")


def trial(
    bench: Bench,
    name: str,
    directory: Path,
    commands: list[tuple[str, Callable[[], tuple[str, str, int]]]],
    chosen: list[tuple[Path, str, random.Random]],
    rows: list[dict[str, Any]],
) -> None:
    """Damage one file after the other, run the commands on each, and add a row for each command."""
    pristine = bench.folder / f"pristine-{name}"
    shutil.copytree(bench.folder / "out", pristine)

    def put_back() -> None:
        shutil.rmtree(bench.folder / "out")
        shutil.copytree(pristine, bench.folder / "out")

    for command, run in commands:
        put_back()
        expected = run()
        counted: Counter[str] = Counter()
        for file, kind, generator in chosen:
            put_back()
            file.write_bytes(damaged(file.read_bytes(), kind, generator, bench.mark))
            became = outcome(run(), expected, file, bench.mark)
            counted[became] += 1
            if became in ("WRONG", "ran"):
                print(f"{became}: {command} with {file.relative_to(directory)}, {kind}", file=sys.stderr)
        rows.append(
            {
                "sweep": name,
                "command": command,
                "cases": len(chosen),
                **{one: counted[one] for one in COLUMNS[3:]},
            }
        )
        tables.tell(rows, 1, COLUMNS)


def main() -> None:
    """Parse the command line and print the table."""
    parser = tables.parser_of(__doc__)
    parser.add_argument(
        "--places", type=int, default=20, help="how often each file is cut, garbled and flipped"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sample", type=int, help="only so many of the cases, drawn at random")
    parser.add_argument("--sweeps", nargs="+", default=["finished", "killed"])
    parser.add_argument("--commands", nargs="+", help="only these")
    parser.add_argument("--resume", action="store_true", help="also resume the finished sweep (slow)")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in arguments.sweeps:
        with tempfile.TemporaryDirectory(prefix="vi_dist_damage_") as folder:
            bench = Bench(Path(folder))
            directory = bench.sweep(None if name == "finished" else 4)
            commands = list(bench.looks(directory)) if name == "finished" else []
            if name == "killed" or arguments.resume:
                commands.append(("resume", lambda bench=bench, at=directory: bench.resume(at)))  # type: ignore[misc]
            if arguments.commands:
                commands = [one for one in commands if one[0] in arguments.commands]
            chosen = list(cases(directory, arguments.places, arguments.seed))
            if arguments.sample is not None and arguments.sample < len(chosen):
                chosen = random.Random(arguments.seed).sample(chosen, arguments.sample)
            trial(bench, name, directory, commands, chosen, rows)
    tables.write(rows, arguments.out)
    sys.exit(any(row["WRONG"] or row["ran"] for row in rows))


if __name__ == "__main__":
    main()
