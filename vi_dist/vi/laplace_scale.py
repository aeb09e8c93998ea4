"""A mode and the scale of the density there, as whitened guides use them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Mode:
    """Where the log joint of the coordinates is largest, and the scale it has there.

    Attributes:
        loc: the mode, `(d,)`.
        root: the Cholesky factor of the inverse of minus the Hessian, `(d, d)`.
    """

    loc: Tensor
    root: Tensor

    def to(self, like: Tensor) -> Mode:
        """The same in the dtype and on the device of `like`."""
        return Mode(self.loc.to(like), self.root.to(like))
