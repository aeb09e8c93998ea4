"""A new sqlite store without MLflow's migrations: what they made once is kept and copied.

MLflow goes through all of its history to make a store, which takes 2 s of a core and hundreds of commits. A store that
it has just made is kept without its rows of experiments (one, with the path of its directory), for each version of
what makes it; MLflow finds all tables in a copy and adds that row by itself, as it does for its own.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path

import mlflow

from vi_dist.cache import cache_root

_MAKERS = ("mlflow", "sqlalchemy", "alembic")
_MIGRATIONS = Path("store", "db_migrations", "versions")
_log = logging.getLogger(__name__)


def template() -> Path:
    """Where the store that these versions make is kept."""
    makers = [f"{package} {version(package)}" for package in _MAKERS]
    migrations = Path(mlflow.__file__).parent / _MIGRATIONS
    steps = sorted(f"{step.name} {step.stat().st_size}" for step in migrations.glob("*.py"))
    text = "\n".join([*makers, f"sqlite {sqlite3.sqlite_version}", *steps])
    return cache_root() / "stores" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.db"


def copy_template(file: Path) -> bool:
    """Put a copy at a path where nothing is yet; false if that cannot be, and then nothing has changed."""
    kept, draft = template(), file.with_name(f".{file.name}.{os.getpid()}.new")
    if file.exists() or not kept.exists():
        return False
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as copy:
            copy.write(kept.read_bytes())
            copy.flush()
            os.fsync(copy.fileno())
        _check(draft)
        os.link(draft, file)  # whole or not at all, and never over a store that another program has just made
    except OSError as fault:
        _log.info("MLflow makes the store itself: %s", fault)
        return False
    except sqlite3.Error as fault:
        _log.warning("MLflow makes the store itself, for %s is damaged: %s", kept, fault)
        kept.unlink(missing_ok=True)
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True


def _check(file: Path) -> None:
    """Raise `sqlite3.Error` for what is not a whole store without experiments."""
    with closing(sqlite3.connect(file)) as connection:
        (found,) = connection.execute("pragma quick_check").fetchone()
        (experiments,) = connection.execute("select count(*) from experiments").fetchone()
    if found != "ok" or experiments:
        raise sqlite3.DatabaseError(f"{found}, {experiments} experiments")


def keep_template(file: Path) -> None:
    """Keep a store that MLflow has just made, with nothing in it, for the next one."""
    kept = template()
    with suppress(OSError, sqlite3.Error):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            draft = Path(scratch) / kept.name
            with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(draft)) as target:
                source.backup(target)
                alone = target.execute("select count(*) from experiments").fetchone() == (1,)
                target.execute("delete from experiments")
                target.commit()
                target.execute("vacuum")
            if alone:
                os.replace(draft, kept)
