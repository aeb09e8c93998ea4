"""Whether a fit has converged: whether the second half of its steps still changed it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Largest change of the ELBO, in nats, and of a coordinate's mean or sd, in sds, of a fit that has converged.
SMALL_CHANGE, SMALL_MOVE = 0.05, 0.15
# Draws that a fit is compared with itself on, and steps below which halves say nothing.
DRAWS, FEWEST_STEPS = 1024, 20


@dataclass(frozen=True)
class Convergence:
    """How far a fit went in the second half of its steps.

    An objective that no longer changes is the rule of ADVI (Kucukelbir et al., JMLR 2017), and it alone is fooled where
    the objective is flat; so the guide must have come to rest too. Dhaka et al. (arXiv 2009.00666) look for that at
    its parameters, Welandawe et al. (arXiv 2203.15945) at how far apart averaged guides are, which does not depend on
    how a guide is parametrised: so do we, by means and sds. Both guides are seen on the same noise.

    Attributes:
        change: ELBO at the end less the ELBO half-way, in nats; log joint of a point estimate.
        moved: change of the mean or of the sd, in sds of the end, of the coordinate where that is largest; NaN for a
            point estimate, which has no sd.
    """

    change: float
    moved: float

    @property
    def reached(self) -> bool:
        """Whether the fit has converged."""
        return abs(self.change) <= SMALL_CHANGE and not self.moved > SMALL_MOVE

    @property
    def sentence(self) -> str:
        """What was seen, for people."""
        what = "log joint" if math.isnan(self.moved) else "ELBO"
        seen = f"in the second half of its steps the {what} changed by {self.change:.2g} nats"
        if not math.isnan(self.moved):
            seen += f" and means and sds by up to {self.moved:.2g} sd"
        return f"{'Converged' if self.reached else 'Not converged'}: {seen}."


def compare(halfway: tuple[Tensor, Tensor], end: tuple[Tensor, Tensor]) -> Convergence:
    """A fit half-way and at its end, each as log weights `(N,)` and coordinates `(N, d)` of draws of the same noise.

    A point estimate is one draw.
    """
    (weights, before), (last, after) = halfway, end
    change = float((last - weights).mean())
    if len(after) < 2:
        return Convergence(change, math.nan)
    spread = after.std(0)
    moves = torch.stack((after.mean(0) - before.mean(0), spread - before.std(0))).abs()
    # A coordinate without spread that stays where it is has not moved.
    return Convergence(change, float(torch.where(moves == 0, moves, moves / spread).max()))
