"""A peer's guide, read out and put into vi_dist's coordinates, is the guide that it was."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import softplus

from benchmarks.models.case import Case
from benchmarks.models.eight_schools import CASE
from benchmarks.models.neural_network import CASE as NETWORK
from benchmarks.sides.numpyro_side import NumPyro
from benchmarks.sides.packed import leaves_of_peer, starting_values
from benchmarks.sides.programs import built
from benchmarks.sides.pyro_side import Pyro
from benchmarks.sides.side import Job
from benchmarks.slices import median_ratio

INITIAL_SCALE = 0.1


@pytest.mark.parametrize("guide", ["mean_field", "full_rank"])
@pytest.mark.parametrize("peer", ["numpyro", "pyro"])
@pytest.mark.parametrize("case", [CASE, NETWORK], ids=lambda case: case.name)
def test_all_sides_start_at_the_same_guide(peer: str, guide: str, case: Case) -> None:
    pytest.importorskip(peer)
    job = Job(case, guide, 1, 1)
    side = (NumPyro if peer == "numpyro" else Pyro)(job, starting_values(case))
    side.advance(1)  # Pyro's guide has no params before
    leaves = leaves_of_peer(case, guide, side.guide())
    start = built(case, torch.float64)[1].loc
    # One step of Adam moves every coordinate by the rate, up or down; a guide in another order is far off.
    rate = 1.01 * job.rates()[0]
    assert torch.allclose(leaves["loc"][0], start.double(), rtol=0, atol=rate)
    assert torch.allclose(
        softplus(leaves["raw_scale"]), torch.tensor(INITIAL_SCALE).double(), rtol=0, atol=rate
    )


def test_ratios_are_taken_slice_by_slice() -> None:
    assert median_ratio([2.0, 20.0, 3.0], [1.0, 10.0, 3.0]) == 2.0
