"""Opening the store: what creates its schema, so one process at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from vi_dist.tracking.environment import database, schema_lock
from vi_dist.tracking.patience import Patience
from vi_dist.tracking.store import Store
from vi_dist.tracking.template import copy_template, keep_template


def open_store(
    tracking_uri: str,
    alone: Callable[[], bool] = lambda: True,
    trouble: Callable[[str], None] = lambda message: None,
    beat: Callable[[], None] = lambda: None,
) -> Store:
    """The store behind an absolute URI, its schema copied or, for the first time (2 to 3 s), made if need be.

    Args:
        tracking_uri: sqlite, http, or whatever else MLflow knows.
        alone: says whether the driver is gone, so that waiting for the store must end some time.
        trouble: told why the store is away, and "" when it is back.
        beat: called after every call that the store took.

    Raises:
        Refused: MLflow cannot make sense of the URI.
        GaveUp: the store stayed away and the driver is gone.
    """
    client = Patience(_unknown, alone, trouble, beat).call(_open, tracking_uri)

    def probe() -> object:
        return client.search_experiments(max_results=1)

    store = Store(tracking_uri, client, Patience(probe, alone, trouble, beat))
    store.patience.call(probe)
    return store


def _open(tracking_uri: str) -> MlflowClient:
    """A client on the URI, for runs and for the registry."""
    file = database(tracking_uri)
    if file is None:
        return MlflowClient(tracking_uri, registry_uri=tracking_uri)
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = schema_lock(file)
    lock.wait()
    try:
        return _opened(tracking_uri, file)
    except SQLAlchemyError as fault:
        raise OSError(f"{file}: {fault}") from fault
    finally:
        lock.release()


def _opened(tracking_uri: str, file: Path) -> MlflowClient:
    """A client on a sqlite file that nobody else opens meanwhile."""
    new = not file.exists()
    copied = copy_template(file)
    _check(file)
    client = MlflowClient(tracking_uri, registry_uri=tracking_uri)
    if new and not copied:
        keep_template(file)
    return client


def _check(file: Path) -> None:
    """Raise OSError for a file that sqlite cannot open: MLflow would try for two minutes, and say nothing."""
    try:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("pragma schema_version").fetchone()
    except sqlite3.Error as fault:
        raise OSError(f"{file}: {fault}") from fault


def _unknown() -> None:
    """Before there is a client nobody can tell a bad request from a bad moment: take it for a bad moment."""
    raise OSError
