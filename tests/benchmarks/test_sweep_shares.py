"""The benchmark of a sweep's shares runs and prints both tables; its numbers are nobody's business here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_it_prints_rates_and_shares(root: Path, tmp_path: Path) -> None:
    spec, eight_schools = tmp_path / "sweep.yaml", root / "experiments/eight_schools"
    spec.write_text(
        f"""
name: shares
model: {eight_schools}/model.py:build
data: {eight_schools}/eight_schools.npz
space: {{guide: [mean_field], learning_rate: [0.01, 0.03]}}
compile: never
evaluation: {{samples: 256}}
"""
    )
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "benchmarks.sweep_shares",
        "--spec",
        str(spec),
        "--fits",
        "1",
    ]
    done = subprocess.run(
        [*command, "--steps", "20", "--executor", "inline"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    rates = re.findall(r"(?m)^(?:one fit|sweep,).*?([\d,]+) +[\d.]+$", done.stdout)
    assert len(rates) == 3
    assert all(int(rate.replace(",", "")) > 0 for rate in rates)
    shares = re.findall(r"(?m)^(?:start_up|stepping|evaluation|tracking|other) .* (\d+)%$", done.stdout)
    assert len(shares) == 5
    assert abs(sum(map(int, shares)) - 100) <= 3
