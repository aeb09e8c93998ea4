"""Which world a call of a random variable belongs to."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vi_dist.model.world import World

# A tuple rather than a list: entering a world in one thread or task leaves the others' worlds alone.
_worlds: ContextVar[tuple[World, ...]] = ContextVar("vi_dist_worlds", default=())


def current_world() -> World | None:
    """The innermost world entered, or None."""
    worlds = _worlds.get()
    return worlds[-1] if worlds else None


def enter(world: World) -> None:
    """Make this world the current one."""
    _worlds.set((*_worlds.get(), world))


def leave() -> None:
    """Make the world entered before the current one current again."""
    _worlds.set(_worlds.get()[:-1])
