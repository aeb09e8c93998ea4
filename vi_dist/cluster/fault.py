"""Saying where in the user's code an exception came from."""

from __future__ import annotations

import traceback

from vi_dist.redaction import redacted


def place_of_fault(error: BaseException, file: str | None) -> str:
    """`` (line 12, in build)`` for the innermost frame in `file`; empty where there is none.

    A syntax error tells its own line.
    """
    if isinstance(error, SyntaxError) or file is None:
        return ""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" (line {frames[-1].lineno}, in {frames[-1].name})" if frames else ""


def one_line(error: BaseException) -> str:
    """An exception's type and message in one line, without passwords of addresses."""
    text = redacted(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
