"""A guide's draws with their importance weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vi_dist.evaluation.evaluate import ROWS
from vi_dist.vi.guides.family import Family
from vi_dist.vi.noise import SAMPLING, NormalSource


def weighted_rows(
    joint: Callable[[Tensor], Tensor],
    family: Family,
    leaves: Mapping[str, Tensor],
    params: Tensor,
    n: int,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """n draws `(n, D)` of one guide's coordinates, followed by the model's params, and their log weights `(n,)`.

    They are the draws of `vi_dist.vi.sampling.draw_flat` and `Fit.sample` with this seed, in float64.

    Args:
        joint: the model's log joint over rows in float64, with the Jacobian.
        family: the guide's family, settled.
        leaves: the guide's leaves, without a leading axis.
        params: the model's own params, flat, `(p,)`.
        n: number of draws.
        seed: of the draws.

    Raises `ValueError` where rounding errors leave log q of a draw unknown by more than a nat.
    """
    batched = {name: leaf.to(torch.float64)[None] for name, leaf in leaves.items()}
    own = params.to(torch.float64)
    source = NormalSource(family.noise, [seed], torch.float64)
    rows, weights = [], []
    with torch.no_grad():
        for first in range(0, n, ROWS):
            count = min(ROWS, n - first)
            noise = source(SAMPLING, torch.zeros(1, 1), count, first)[0]
            z = family.draw(batched, noise)
            row = torch.cat((z[0], own.expand(count, -1)), -1)
            log_q = family.checked_log_q(batched, noise, z)[0]
            if unknown := int(log_q.isnan().sum()):
                raise ValueError(
                    f"rounding errors leave the guide's log density at {unknown} of {count} draws unknown by more than "
                    "a nat, so they have no importance weights; fit with a smaller learning rate or a simpler guide"
                )
            weights.append(joint(row) - log_q)
            rows.append(row)
    return torch.cat(rows), torch.cat(weights)
