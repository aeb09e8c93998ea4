"""The README's program runs and prints what the README says it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOLERANCE = 0.05
"""How far a printed number may be from the README's: other processors round otherwise, and Adam goes on from there."""


@pytest.mark.slow
def test_the_program_prints_what_the_readme_says(root: Path, tmp_path: Path) -> None:
    text = (root / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (shown,) = re.findall(r"```\n( rank.*?)```", text, re.DOTALL)
    (tmp_path / "program.py").write_text(program)
    printed = subprocess.run(
        [sys.executable, "-W", "ignore", "program.py"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    wanted, found = shown.split("\n"), printed.split("\n")
    assert found[0].split() == wanted[0].split()
    named = {line.split()[1]: [float(cell) for cell in line.split()[2:4]] for line in found[1:9]}
    for line in wanted[1:9]:
        _, name, elbo, error, _ = line.split()
        assert named[name] == pytest.approx([float(elbo), float(error)], abs=TOLERANCE)
    means, said = (re.findall(r"[\d.]+", lines[9]) for lines in (found, wanted))
    assert list(map(float, means)) == pytest.approx(list(map(float, said)), abs=0.11)
