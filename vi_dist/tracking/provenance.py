"""Who runs a sweep, from what and at which commit: tags that MLflow's client API leaves out."""

from __future__ import annotations

import getpass
import subprocess
import sys
from pathlib import Path


def source_tags(source: Path | str | None = None) -> dict[str, str]:
    """``mlflow.user``, ``mlflow.source.*`` and the git commit, as far as they can be known; never raises.

    Args:
        source: the sweep's spec or script; by default the program that runs.
    """
    path = Path(source or sys.argv[0]).absolute()
    if source is None and not path.is_file():  # python -c, or an embedded interpreter
        path = Path(sys.executable)
    tags = {"mlflow.source.name": str(path), "mlflow.source.type": "LOCAL"}
    if user := _user():
        tags["mlflow.user"] = user
    if commit := _commit(path if path.is_dir() else path.parent):
        tags["mlflow.source.git.commit"] = commit
    return tags


def _user() -> str:
    """The login name; empty in a container whose user id has no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _commit(directory: Path) -> str:
    """The commit checked out around a directory; empty where there is no repository or no git."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(directory), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=2,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()
