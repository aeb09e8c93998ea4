"""Rows held out: which of the data's rows train, and which are predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vi_dist.model.shard_rows import ShardRows

if TYPE_CHECKING:
    from vi_dist.model.data import Data


@dataclass(frozen=True)
class Holdout:
    """A split of `rows` rows by a seeded permutation; a row is an entry along the first axis.

    Args:
        rows: of the whole data.
        fraction: of them that is held out; at least one row is, and at least one is not.
        seed: of the permutation.
    """

    rows: int
    fraction: float
    seed: int = 0

    @property
    def count(self) -> int:
        """How many rows are held out."""
        return min(max(1, round(self.fraction * self.rows)), self.rows - 1)

    def chosen(self, held_out: bool) -> Tensor:
        """The numbers of the rows that are held out, or of the others, ascending."""
        # Numpy keeps the stream of this old generator as it is for ever.
        order = np.random.RandomState(self.seed).permutation(self.rows)
        part = order[: self.count] if held_out else order[self.count :]
        return torch.from_numpy(np.sort(part))

    def split(self, data: Data) -> list[str]:
        """The names of the arrays that have these rows."""
        return [name for name, value in data.usable().items() if value.ndim and value.shape[0] == self.rows]

    def part(self, data: Data, held_out: bool) -> Data:
        """The data with only the rows that are held out, or only the others; arrays of other lengths stay whole."""
        chosen, split = self.chosen(held_out), self.split(data)
        return data.map(lambda name, value: _taken(value, chosen) if name in split else value)

    def of_shard(self, rows: ShardRows, held_out: bool) -> ShardRows:
        """The rows of a shard that are held out, or the others of it."""
        kept = torch.isin(rows.ids, self.chosen(held_out))
        data = rows.data.map(lambda _, value: _taken(value, kept) if value.ndim else value)
        return ShardRows(data, rows.ids[kept], rows.total)


def _taken(value: Tensor | np.ndarray, rows: Tensor) -> Tensor | np.ndarray:
    return value[rows] if isinstance(value, Tensor) else value[rows.numpy()]
