"""Where a sweep's tracking lives, and the environment in which the processes beside it run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import vi_dist
from vi_dist.errors import SpecError
from vi_dist.tracking.lock import FileLock

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    "OMP_NUM_THREADS": "1",
}
# The writer has its own retries: a client's would block it for minutes in front of a dead server.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
_TIMEOUT = ("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")


def default_tracking_uri(output_dir: Path | str) -> str:
    """The store of an output directory that names no other: ``sqlite:///<output_dir>/mlflow.db``."""
    return f"sqlite:///{Path(output_dir).absolute() / 'mlflow.db'}"


def absolute_uri(tracking_uri: str) -> str:
    """The same store whatever the current directory; a plain path means a directory of files.

    >>> absolute_uri("sqlite:////data/mlflow.db"), absolute_uri("http://head:5000")
    ('sqlite:////data/mlflow.db', 'http://head:5000')

    Raises:
        SpecError: a sqlite URI that names no file.
    """
    parts = urlsplit(tracking_uri)
    if parts.scheme.startswith("sqlite"):
        scheme, slashes, path = tracking_uri.partition(":///")
        if not path:
            raise SpecError(
                f"tracking URI {tracking_uri!r} names no file: write sqlite:///path/mlflow.db",
                key="tracking_uri",
            )
        return f"{scheme}{slashes}{Path(path).absolute()}"
    return tracking_uri if parts.scheme else str(Path(tracking_uri).absolute())


def database(tracking_uri: str) -> Path | None:
    """The sqlite file behind an absolute tracking URI, if there is one."""
    if not urlsplit(tracking_uri).scheme.startswith("sqlite"):
        return None
    return Path(tracking_uri.partition(":///")[2].partition("?")[0])


def schema_lock(file: Path) -> FileLock:
    """What whoever opens a sqlite store must hold: four at once broke a fresh one for good."""
    return FileLock(file.with_name(f".{file.name}.lock"))


def is_served(tracking_uri: str) -> bool:
    """Whether the store is a server with pages of its own to look at."""
    return urlsplit(tracking_uri).scheme in ("http", "https")


def without_credentials(tracking_uri: str) -> str:
    """The URI as it may be shown; of a server, its address.

    >>> without_credentials("https://ada:secret@head:5000/"), without_credentials("sqlite:////a.db")
    ('https://head:5000', 'sqlite:////a.db')
    >>> without_credentials("postgresql://ada:secret@head/mlflow")
    'postgresql://head/mlflow'
    """
    parts = urlsplit(tracking_uri)
    if not parts.netloc:
        return tracking_uri
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def child_environment() -> dict[str, str]:
    """The environment of the writer and the local server: ours, quiet, without telemetry, impatient."""
    environment = {**os.environ, **_QUIET, **_IMPATIENT}
    environment.setdefault(*_TIMEOUT)
    root = Path(vi_dist.__file__).absolute().parents[1]
    if not {"site-packages", "dist-packages"} & set(root.parts):
        # A checkout that nobody installed: the child starts in another directory and must still find it.
        known = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
        environment["PYTHONPATH"] = os.pathsep.join([*known, str(root)])
    return environment


def python_module(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module under this very interpreter."""
    return [sys.executable, "-m", module, *arguments]
