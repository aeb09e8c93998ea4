"""Arguments of what users call from Python, checked in words before anything of another package sees them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vi_dist.errors import SpecError
from vi_dist.sweep.dimension import SEED
from vi_dist.sweep.fields import text
from vi_dist.sweep.values import expected, parse_value, plain, show
from vi_dist.vi.table import Argument

MOST_BYTES = 1 << 36
"""Memory that draws may take, in the coordinates of the guide: 64 GiB."""
_DRAWS = Argument(int, low=1)


def folder(value: object, key: str) -> Path:
    """A path. Raises `SpecError` for what is none."""
    if not isinstance(value, str | os.PathLike) or isinstance(path := os.fspath(value), bytes):
        raise SpecError(f"{show(value)} is no path", key=key, allowed=("text", "a pathlib.Path"))
    try:
        text(path)
    except SpecError as error:
        raise SpecError(f"{show(path)} is no path: {error.message}", key=key, allowed=error.allowed) from None
    return Path(path)


def draws(n: object, seed: object, resample: object, coordinates: int) -> tuple[int, int]:
    """How many draws of so many coordinates, and their seed.

    Raises:
        SpecError: what is no number or no truth value, or draws that take more than `MOST_BYTES`.
    """
    count, number = _whole(n, _DRAWS, "n"), _whole(seed, SEED, "seed")
    parse_value(plain(resample), Argument(bool), "resample")
    if (size := 8 * count * max(1, coordinates)) > MOST_BYTES:
        raise SpecError(
            f"{count} draws of {coordinates} coordinates take {size / 2**30:,.0f} GiB; take them in parts, with a seed "
            "for each",
            key="n",
            allowed=(f"a whole number, at least 1 and at most {MOST_BYTES // (8 * max(1, coordinates))}",),
        )
    return count, number


def _whole(value: object, argument: Argument, key: str) -> int:
    if isinstance(value, str):  # which a file may hold in place of a number, and no call
        raise SpecError(f"{show(value)} is text", key=key, allowed=(expected(argument),))
    return int(parse_value(value, argument, key))


def names(keys: object) -> Sequence[str] | None:
    """Keys, names or ranks of configurations as text; None for the best. Raises `SpecError` for anything else."""
    if keys is None:
        return None
    if isinstance(keys, str | int) and not isinstance(keys, bool):
        raise SpecError(f"{show(keys)} is one; give a list: [{show(keys)}]", key="keys", allowed=("a list",))
    keys = plain(keys)
    if not isinstance(keys, list) or not keys:
        raise SpecError(f"{show(keys)} is no list of keys, names or ranks", key="keys", allowed=("a list",))
    if odd := [key for key in keys if not isinstance(key, str | int) or isinstance(key, bool)]:
        raise SpecError(
            f"{show(odd[0])} is no key, name or rank", key="keys", allowed=("text", "a whole number")
        )
    return [str(key) for key in keys]


def values_by_name(values: object, key: str) -> None:
    """Raise `SpecError` for what is no mapping, None aside."""
    if values is not None and not isinstance(values, Mapping):
        reason = f"{show(values)} is no mapping of latents, or their names, to values"
        raise SpecError(reason, key=key, allowed=('{"mu": 0.5}',))


def callback(value: object, key: str) -> None:
    """Raise `SpecError` for what cannot be called, None aside."""
    if value is not None and not callable(value):
        raise SpecError(f"{show(value)} cannot be called", key=key, allowed=("a function",))
