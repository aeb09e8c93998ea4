"""The walk-through runs, block after block, and prints what it says it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOLERANCE = 0.15
"""How far a printed number may be from the document's: other processors round otherwise."""
_NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+")
_BLOCK = re.compile(r"```python\n(.*?)```(?:\n+```\n(.*?)```)?", re.DOTALL)
_SEEN = "--- block ---"


@pytest.mark.slow
def test_every_block_prints_what_stands_under_it(root: Path, tmp_path: Path) -> None:
    blocks = _BLOCK.findall((root / "docs" / "WALKTHROUGH.md").read_text())
    assert len(blocks) == 8 and sum(bool(shown) for _, shown in blocks) == 6
    program = f"print({_SEEN!r})\n".join(code for code, _ in blocks)
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "program.py"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for printed, (code, shown) in zip(done.stdout.split(f"{_SEEN}\n"), blocks, strict=True):
        found, wanted = printed.split(), shown.split()
        assert [_NUMBER.sub("#", word) for word in found] == [_NUMBER.sub("#", word) for word in wanted], code
        numbers = [float(number) for number in _NUMBER.findall(printed)]
        assert numbers == pytest.approx(
            [float(number) for number in _NUMBER.findall(shown)], abs=TOLERANCE
        ), code
    assert {"curves.png", "hyperparameters.png", "marginals.png", "winner"} <= {
        path.name for path in tmp_path.iterdir()
    }
