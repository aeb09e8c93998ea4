"""What stands for the state of a pack of shards between calls: the state itself stays with the shards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

# No pack's own state begins so: its first eight bytes are a length.
_MARK = b"shards: "


@dataclass(frozen=True)
class ShardState:
    """How many steps a pack has taken, and where its columns came from if they began in other packs.

    Attributes:
        steps: taken by the columns, those in other packs included.
        sources: packs (by number) and rows in them, one for each column; they paused after `paused` steps, of which
            the shards keep checkpoints.
        paused: see `sources`; 0 for columns that began here.
    """

    steps: int = 0
    sources: tuple[tuple[int, int], ...] = ()
    paused: int = 0

    def to_bytes(self) -> bytes:
        """For `from_bytes`."""
        return _MARK + json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> ShardState:
        """What `to_bytes` wrote."""
        found = json.loads(content.removeprefix(_MARK))
        sources = tuple((pack, row) for pack, row in found["sources"])
        return cls(found["steps"], sources, found["paused"])


def of_shards(content: bytes) -> bool:
    """Whether a pack's state in a chunk is a `ShardState`."""
    return content.startswith(_MARK)


def together(parts: Sequence[tuple[int, bytes, int]]) -> ShardState:
    """The state of a pack of columns of others that paused after the same number of steps, given as (pack, state,
    row)."""
    (paused,) = {ShardState.from_bytes(content).steps for _, content, _ in parts}
    return ShardState(paused, tuple((pack, row) for pack, _, row in parts), paused)
