"""Where a spec came from, so that an error found later still names its file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vi_dist.errors import SpecError


@dataclass(frozen=True)
class Source:
    """The file of a spec, None for one made in Python, and the keys that overrides replaced."""

    path: Path | None = None
    overridden: tuple[str, ...] = ()

    @property
    def base(self) -> Path:
        """The folder that relative paths start from."""
        return Path.cwd() if self.path is None else self.path.resolve().parent

    @contextmanager
    def placing(self) -> Iterator[None]:
        """Name the file, and the override if it was one, in every `SpecError` raised inside."""
        try:
            yield
        except SpecError as error:
            key = error.key or ""
            note = " (set by an override)" if any(_inside(key, name) for name in self.overridden) else ""
            path = error.path or self.path
            raise type(error)(error.message + note, path=path, key=error.key, allowed=error.allowed) from None


def _inside(key: str, name: str) -> bool:
    """Whether a key path is `name` or leads into it."""
    return key == name or key.startswith((f"{name}.", f"{name}["))
