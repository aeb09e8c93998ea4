"""A whole sweep, command to leaderboard with MLflow, against the same sweep on Ray Tune and Pyro.

    python -m benchmarks.whole_sweep                              # ours at 256, the peer at 16 configurations
    python -m benchmarks.whole_sweep --peer-configurations 256    # nothing extrapolated; about an hour
    python -m benchmarks.whole_sweep --sides ours --steps 500

Both sides run as commands of their own, at N and at 4N steps. Ours runs as it is by default with an empty cache of
compiled programs, then under `compile: always` with an empty one and with the one that this has left. The marginal rate
comes from the difference of the two warm runs, so that start-up and compiling drop out. Where the
peer ran fewer configurations, its time for all of them is extrapolated by that rate, which leaves out what every
further trial costs beside its steps: in the peer's favour.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import require
from benchmarks.tables import parser_of, text, write

ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "benchmarks/sweep.yaml"
COMMAND = "from vi_dist.cli.main import main; main()"
SHOWN = ("side", "compile", "cache", "configurations", "steps", "seconds", "ahead", "stepping_s", "note")
TIMES = 4
# Notes of rows that the marginal rate does not come from.
APART = ("inline", "extrapolated")


def main() -> None:
    """Run both sides and print two tables."""
    arguments = _parsed()
    sides = arguments.sides.split(",")
    if "peer" in sides:
        require("pyro")
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as scratch:
        ours = _ours(arguments, Path(scratch)) if "ours" in sides else []
        peer = _peer(arguments, Path(scratch)) if "peer" in sides else []
    rows = [*ours, *peer]
    if ours and peer:
        for row in rows:
            _compare(row, peer)
    print(text(rows, SHOWN))
    rates = {name: _marginal(made) for name, made in (("vi_dist", ours), ("tune+pyro", peer)) if made}
    for name, rate in rates.items():
        print(f"marginal rate, {name}: {rate:,.0f} configuration-steps/s")
    if len(rates) == 2:
        print(f"ratio of marginal rates: {rates['vi_dist'] / rates['tune+pyro']:.0f}")
    write([{**row, "marginal_rate": rates.get(row["side"])} for row in rows], arguments.out)


def _parsed() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--sides", default="ours,peer", help="of ours,peer")
    parser.add_argument("--configurations", type=int, default=256)
    parser.add_argument("--peer-configurations", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2000, help="N; the second run takes 4N")
    parser.add_argument("--samples", type=int, default=1, help="S, draws per step")
    parser.add_argument("--guides", default="mean_field,full_rank")
    parser.add_argument("--trials", type=int, default=2, help="of the peer at a time, and our actors at most")
    return parser.parse_args()


def _ours(arguments: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    """As it is and cold; compiled, cold and warm; warm at 4N, and inline, where nothing else shares the process."""
    plan = (
        ("auto", "empty", arguments.steps, "ray"),
        ("always", "empty", arguments.steps, "ray"),
        ("always", "warm", arguments.steps, "ray"),
        ("always", "warm", TIMES * arguments.steps, "ray"),
        ("always", "warm", TIMES * arguments.steps, "inline"),
    )
    rows = []
    for number, (mode, state, steps, executor) in enumerate(plan):
        changes = {
            "configurations": arguments.configurations,
            "steps": steps,
            "num_samples": arguments.samples,
            "space.guide": f"[{arguments.guides}]",
            "executor": executor,
            "compile": mode,
            "output_dir": scratch / f"out{number}",
        }
        if executor == "ray":
            changes["max_actors"] = arguments.trials
        options = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
        seconds, output = _timed(
            ["-c", COMMAND, "sweep", str(SPEC), *options, "--json"], scratch / f"cache_{mode}"
        )
        result = json.loads(output)
        workers = arguments.trials if executor == "ray" else 1
        rows.append(
            _row("vi_dist", mode, state, arguments.configurations, steps, seconds)
            | {
                "stepping_s": workers * result["timings"]["stepping"],
                "note": f"{executor}, {_spread(result)}",
            }
        )
    return rows


def _spread(result: Mapping[str, Any]) -> str:
    timings = result["timings"]
    return ", ".join(f"{name} {value:.1f}" for name, value in timings.items() if name != "wall")


def _peer(arguments: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    """Two commands, at N and at 4N steps, and what follows for all configurations."""
    rows, count = [], arguments.peer_configurations
    for steps in (arguments.steps, TIMES * arguments.steps):
        command = ["-m", "benchmarks.peer_tune", "--configurations", count, "--steps", steps]
        command += [
            "--samples",
            arguments.samples,
            "--guides",
            arguments.guides,
            "--trials",
            arguments.trials,
        ]
        seconds, _ = _timed([*map(str, command), "--output", str(scratch / f"peer{steps}")], scratch / "none")
        rows.append(_row("tune+pyro", "-", "-", count, steps, seconds))
    if count < arguments.configurations:
        rate = _marginal(rows)
        for row in rows[:2]:
            further = (arguments.configurations - count) * row["steps"] / rate
            rows.append(
                _row("tune+pyro", "-", "-", arguments.configurations, row["steps"], row["seconds"] + further)
                | {"note": f"extrapolated from {count} by the marginal rate"}
            )
    return rows


def _row(side: str, mode: str, cache: str, configurations: int, steps: int, seconds: float) -> dict[str, Any]:
    made = {
        "side": side,
        "compile": mode,
        "cache": cache,
        "configurations": configurations,
        "steps": steps,
        "seconds": seconds,
    }
    return made | {"ahead": float("nan"), "stepping_s": float("nan"), "note": ""}


def _marginal(rows: Sequence[Mapping[str, Any]]) -> float:
    """Configuration-steps per second between the runs at N and at 4N steps, both warm and on Ray."""
    short, long = (row for row in rows if row["cache"] != "empty" and not row["note"].startswith(APART))
    return short["configurations"] * (long["steps"] - short["steps"]) / (long["seconds"] - short["seconds"])


def _compare(row: dict[str, Any], peer: Sequence[Mapping[str, Any]]) -> None:
    """How many times as long the peer takes for the same sweep."""
    same = [one for one in peer if all(one[k] == row[k] for k in ("configurations", "steps"))]
    if row["side"] == "vi_dist" and same:
        row["ahead"] = same[0]["seconds"] / row["seconds"]


def _timed(arguments: Sequence[str], cache: Path) -> tuple[float, str]:
    """Wall seconds of a command of this Python, and what it printed."""
    # Inductor keeps a cache of its own beside ours: both are empty, or both warm.
    environment = os.environ | {
        "VI_DIST_CACHE": str(cache),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONWARNINGS": "ignore",
        "PYTHONPATH": str(ROOT),
    }
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    print(f"{seconds:8.1f} s  {' '.join(arguments)[:150]}", flush=True)
    return seconds, done.stdout


if __name__ == "__main__":
    main()
