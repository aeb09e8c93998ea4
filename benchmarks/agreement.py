"""Whether sides that are compared reach the same ELBO: a timing of different results is worth nothing."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.sides.numpyro_side import NumPyro
from benchmarks.sides.packed import Packed, elbo_of_peer, starting_values
from benchmarks.sides.pyro_side import Pyro
from benchmarks.sides.side import Job

TOLERANCE = 0.3
# Constant rates leave a fit jittering around its optimum, so they fall: (share of the steps, factor on the rate).
STAGES = ((0.6, 1.0), (0.2, 0.2), (0.2, 0.04))
# Numbers that an evaluation may touch: draws times rows of data.
NUMBERS = 40_000_000
MAX_DRAWS = 2048


def elbos(job: Job, engines: list[str], estimator: str) -> dict[str, float]:
    """ELBO by engine (`vi_dist`, `numpyro`, `pyro`) after the same steps at the same rates, one configuration.

    Every guide is evaluated in float64 by the same log joint on the same draws.
    """
    case = job.case
    alone = replace(job, width=1)
    draws = min(MAX_DRAWS, max(128, NUMBERS // case.rows))
    reached = {}
    for engine in engines:
        if engine == "vi_dist":
            packed = Packed(alone, compiled=False, estimator=estimator)
            _train(packed, job.check_steps)
            reached[engine] = packed.elbo(draws)
        else:
            make = NumPyro if engine == "numpyro" else Pyro
            peer = make(alone, starting_values(case))
            _train(peer, job.check_steps)
            reached[engine] = elbo_of_peer(case, job.guide, peer.guide(), draws)
    return reached


def _train(side: Packed | NumPyro | Pyro, steps: int) -> None:
    for share, factor in STAGES:
        if factor != 1.0:
            side.set_rate(factor)
        side.advance(int(share * steps))


def agrees(reached: dict[str, float], engine: str) -> bool:
    """Whether an engine's ELBO is within the tolerance of vi_dist's; NaN is not."""
    return abs(reached[engine] - reached["vi_dist"]) <= TOLERANCE
