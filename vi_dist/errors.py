"""The exceptions that a user's mistake or a damaged file raises; everything else is a bug of ours."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vi_dist.redaction import redacted


class SpecError(ValueError):
    """A sweep's description is wrong: the message names the value, where it stands and the cure.

    Passwords and tokens in addresses are shown as ``***``.

    Args:
        message: what is wrong and what to do about it.
        path: the file it stands in, if it came from one.
        key: the key path inside it, for example ``space.guide[1].low_rank.rank``.
        allowed: the values that would have been accepted, if they can be listed.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | Path | None = None,
        key: str | None = None,
        allowed: Iterable[object] = (),
    ) -> None:
        self.message = redacted(message)
        self.path = None if path is None else redacted(str(path))
        self.key = key
        self.allowed = tuple(redacted(one) if isinstance(one, str) else one for one in allowed)
        super().__init__(self.message, self.path, self.key, self.allowed)

    def __str__(self) -> str:
        place = ": ".join(part for part in (self.path, self.key) if part)
        text = f"{place}: {self.message}" if place else self.message
        if self.allowed:
            text += f" (allowed: {', '.join(map(str, self.allowed))})"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.path, self.key, self.allowed)


class ModelError(SpecError):
    """A fault in the user's model, its data or its guide, found before anything starts."""


class DamagedFile(SpecError):
    """A file that is read back is not what was written.

    Args:
        message: what is wrong with it.
        path: the file.
        cure: what makes it whole again.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | Path | None = None,
        key: str | None = None,
        allowed: Iterable[object] = (),
        cure: str = "",
    ) -> None:
        super().__init__(f"{message}; {cure}" if cure else message, path=path, key=key, allowed=allowed)


def _rebuild(
    kind: type[SpecError], message: str, path: str | None, key: str | None, allowed: tuple[object, ...]
) -> SpecError:
    """Unpickle an error that travelled from an actor."""
    return kind(message, path=path, key=key, allowed=allowed)
