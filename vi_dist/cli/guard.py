"""Exit codes: 0 done, 1 nothing finished or a crash, 2 bad input, 130 interrupted; one message on stderr."""

from __future__ import annotations

import errno
import sys
import time
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any

import typer

from vi_dist.redaction import redacted

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
_BAD_PATHS = (
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENOTDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EISDIR,
)
STARTED = time.perf_counter()
"""When the command began, near enough."""


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn exceptions into a message and an exit code; the traceback only with ``--debug``."""

    @wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # Whoever read our output has enough; Python would complain again while it closes stdout.
            sys.stdout = None
            raise typer.Exit(0) from None
        except Exception as error:
            if kwargs.get("debug"):
                say(traceback.format_exc())
            say(f"error: {_message(error)}")
            raise typer.Exit(BAD_INPUT if _is_bad_input(error) else FAILED) from error

    return wrapper


def say(message: str) -> None:
    """A message on stderr, without passwords and tokens of addresses."""
    typer.echo(redacted(message), err=True)


def _is_bad_input(error: Exception) -> bool:
    from vi_dist.errors import SpecError

    return isinstance(error, SpecError) or _is_bad_path(error)


def _is_bad_path(error: Exception) -> bool:
    """Whether a path that the user gave leads nowhere, or to where she may not go."""
    return isinstance(error, OSError) and error.errno in _BAD_PATHS and error.filename is not None


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and _is_bad_path(error):
        return f"{error.filename}: {error.strerror}"
    if _is_bad_input(error):
        return str(error)
    return f"{type(error).__name__}: {error} (vi-dist --debug shows more)"
