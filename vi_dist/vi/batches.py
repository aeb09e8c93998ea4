"""Which rows a step of a minibatched fit sees: shuffled without replacement, by row number and step alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vi_dist.vi.noise import BATCHES, threefry


class Batches:
    """The batches of one shard's rows.

    An epoch goes through the rows in the order of keyed random words of their numbers among all rows. What is left
    over at its end is no batch: these rows wait for the order of the next epoch. No configuration has a say, so that
    the columns of a pack share their batches and none of them depends on which pack it is in.

    >>> rows = Batches([torch.arange(5) * 10], torch.arange(5), 2)
    >>> sorted([*rows(0)[0].tolist(), *rows(1)[0].tolist()]) == sorted((10 * rows.order(0)[:4]).tolist())
    True

    Args:
        columns: tensors `(n, ...)` of one row count.
        ids: numbers of the rows among those of all shards, int64 `(n,)`.
        size: rows of a batch, fewer than n.
    """

    def __init__(self, columns: Sequence[Tensor], ids: Tensor, size: int) -> None:
        assert 0 < size < len(ids), "fewer rows in a batch than there are"
        self.columns, self.size = tuple(columns), size
        self._ids = ids.to(torch.int64)
        self._epoch, self._order = -1, ids

    @property
    def scale(self) -> float:
        """What the sum over a batch's rows is multiplied by, so that it estimates the sum over all rows."""
        return len(self._ids) / self.size

    @property
    def per_epoch(self) -> int:
        """Batches of an epoch."""
        return len(self._ids) // self.size

    def __call__(self, step: int) -> tuple[Tensor, ...]:
        """The columns `(size, ...)` of a step's rows."""
        return self.take(self.rows(step))

    def rows(self, step: int) -> Tensor:
        """Places of a step's rows among the shard's, `(size,)`."""
        epoch, place = divmod(step, self.per_epoch)
        return self.order(epoch)[place * self.size : (place + 1) * self.size]

    def take(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The columns at some rows."""
        return tuple(column.index_select(0, rows.to(column.device)) for column in self.columns)

    def order(self, epoch: int) -> Tensor:
        """The shard's rows in the order of an epoch, `(n,)`; kept until another epoch is asked for."""
        if epoch != self._epoch:
            nothing = torch.zeros(1, dtype=torch.int32)
            key = threefry((nothing, nothing), (nothing + BATCHES, nothing + epoch))
            low, high = threefry(key, (self._ids.to(torch.int32), (self._ids >> 32).to(torch.int32)))
            words = (high.to(torch.int64) << 32) | (low.to(torch.int64) & 0xFFFFFFFF)
            self._epoch, self._order = epoch, words.argsort(stable=True)
        return self._order
