"""Where a sweep's tracking lives, and the environment in which the processes beside it run."""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

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
CREDENTIALS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
"""Variables from which MLflow takes what it shows a server."""
_CREDENTIALS_FILE = Path("~/.mlflow/credentials")
_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "file", "databricks", "uc")
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


def check_tracking_uri(tracking_uri: str) -> str:
    """`absolute_uri` of a URI that MLflow can make sense of.

    Raises:
        SpecError: no address, a scheme that MLflow does not know, no host, or no file of its own for a database.
    """
    try:
        parts = urlsplit(tracking_uri)
        _ = parts.port
    except ValueError as error:
        raise SpecError(f"{tracking_uri} is no address: {error}", key="tracking_uri") from None
    if parts.scheme.partition("+")[0] not in ("", *_schemes()):
        reason = f"MLflow knows no tracking store of scheme {parts.scheme!r}"
        raise SpecError(reason, key="tracking_uri", allowed=(*_schemes(), "a folder"))
    if is_served(tracking_uri) and not parts.hostname:
        reason = f"{tracking_uri} names no host; write for example http://127.0.0.1:5000"
        raise SpecError(reason, key="tracking_uri")
    found = absolute_uri(tracking_uri)
    file = database(found)
    if file is not None and (file.is_dir() or file.name == ":memory:"):
        what = "a folder" if file.is_dir() else "in one process's memory"
        reason = f"{tracking_uri} is {what}; name a file: sqlite:///path/mlflow.db"
        raise SpecError(reason, key="tracking_uri")
    if not parts.scheme and Path(found).is_file():
        reason = f"{tracking_uri} is a file; for a database write sqlite:///{tracking_uri}"
        raise SpecError(reason, key="tracking_uri")
    return found


def _schemes() -> tuple[str, ...]:
    """The schemes of tracking stores that MLflow, or an installed plugin of it, knows."""
    plugins = (plugin.name for plugin in entry_points(group="mlflow.tracking_store"))
    return tuple(dict.fromkeys((*_SCHEMES, *plugins)))


def database(tracking_uri: str) -> Path | None:
    """The sqlite file behind an absolute tracking URI, if there is one."""
    if not urlsplit(tracking_uri).scheme.startswith("sqlite"):
        return None
    return Path(tracking_uri.partition(":///")[2].partition("?")[0])


def schema_lock(file: Path) -> FileLock:
    """What whoever opens a sqlite store must hold: four at once broke a fresh one for good."""
    return FileLock(file.with_name(f".{file.name}.lock"))


def same_server(one: str, other: str) -> bool:
    """Whether two addresses are of one server: the same scheme, host and port."""
    ports = {"http": 80, "https": 443}
    first, second = (urlsplit(uri) for uri in (one, other))
    return (first.scheme, first.hostname, first.port or ports.get(first.scheme)) == (
        second.scheme,
        second.hostname,
        second.port or ports.get(second.scheme),
    )


def is_served(tracking_uri: str) -> bool:
    """Whether the store is a server with pages of its own to look at."""
    return urlsplit(tracking_uri).scheme in ("http", "https")


def check_server_named(tracking_uri: str, directory: Path) -> None:
    """Refuse to show credentials to a server that only a directory names: it may have come from anybody.

    Raises:
        SpecError: there are credentials, and ``MLFLOW_TRACKING_URI`` is not of that server.
    """
    if not is_served(tracking_uri) or "@" in urlsplit(tracking_uri).netloc:
        return
    there = [name for name in (*CREDENTIALS, "MLFLOW_TRACKING_AUTH") if os.environ.get(name)]
    if not there and _CREDENTIALS_FILE.expanduser().is_file():
        there = [str(_CREDENTIALS_FILE)]
    if there and not same_server(os.environ.get("MLFLOW_TRACKING_URI", ""), tracking_uri):
        raise SpecError(
            f"{there[0]} would be shown to {tracking_uri}, which only this directory names; if that is the server it "
            f"is for, say so: --tracking-uri {tracking_uri}, or MLFLOW_TRACKING_URI",
            path=directory,
            key="tracking_uri",
        )


def credentials_to_environment(tracking_uri: str) -> str:
    """The address of an MLflow server without its user and password, which MLflow then takes from the environment.

    So no request's address, and no exception that names one, holds them. Any other URI comes back as it is.
    """
    parts = urlsplit(tracking_uri)
    if not is_served(tracking_uri) or "@" not in parts.netloc:
        return tracking_uri
    user, colon, password = parts.netloc.rpartition("@")[0].partition(":")
    if colon:
        os.environ.update(MLFLOW_TRACKING_USERNAME=unquote(user), MLFLOW_TRACKING_PASSWORD=unquote(password))
    else:
        os.environ["MLFLOW_TRACKING_TOKEN"] = unquote(user)
    return without_credentials(tracking_uri)


def open_private(path: Path, mode: str = "ab") -> IO[bytes]:
    """A file to write, which its owner alone may read."""
    kept = os.O_APPEND if mode == "ab" else os.O_TRUNC
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | kept, 0o600), mode)


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


def child_environment(tracking_uri: str | None = None) -> dict[str, str]:
    """The environment of the writer and the local server: ours, quiet, without telemetry, impatient.

    Credentials that stand beside ``MLFLOW_TRACKING_URI`` are for that server: a child that speaks with another one is
    not given them.
    """
    environment = {**os.environ, **_QUIET, **_IMPATIENT}
    given_for = environment.get("MLFLOW_TRACKING_URI", "")
    is_other = (
        tracking_uri is not None and is_served(tracking_uri) and not same_server(given_for, tracking_uri)
    )
    if given_for and is_other:
        environment = {name: value for name, value in environment.items() if name not in CREDENTIALS}
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
