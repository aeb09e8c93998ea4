"""The mode of a model in its unconstrained coordinates, and the curvature there: where whitened guides live."""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor

from vi_dist.vi.guides.family import fixed_normals
from vi_dist.vi.guides.laplace import Curvature, climb, newton
from vi_dist.vi.laplace_scale import Mode
from vi_dist.vi.log_joint import LogJoint

log = logging.getLogger(__name__)

# Newton steps at most.
_STEPS = 60
# Points to start from, and how many numbers their Hessians, and their intermediates, may hold together.
_STARTS, _NUMBERS, _WIDEST = 8, 1 << 18, 1 << 19
# A mode has been reached where the next Newton step is so short, in standard deviations, and every curvature, relative
# to the largest, lies above the rounding errors of a Hessian.
_REACHED, _FLAT = 1e-2, 1e-12


def find_mode(joint: LogJoint, start: Tensor, size: int) -> Mode | None:
    """`reach_mode` for guides, with a warning where there is no mode."""
    mode = reach_mode(joint, start, size)
    if mode is None:
        log.warning(
            "no mode was found; whitened guides are trained in the plain coordinates, and from the prior's median"
        )
    return mode


def reach_mode(joint: LogJoint, start: Tensor, size: int) -> Mode | None:
    """The mode of the largest mass found from several starting points; None where none of them leads to a mode.

    From the starting point and from others a unit normal away, damped Newton steps in which directions of the wrong
    curvature take its absolute value (Dauphin et al., arXiv 1406.2572). Among the modes that they reach the one with
    the largest Laplace approximation of its mass wins. None for densities without a mode, such as a funnel's.

    Args:
        joint: the log joint over rows, in float64.
        start: coordinates near the prior's median, then the model's own params, `(D,)`.
        size: d, the number of coordinates.
    """
    starts = max(1, min(_STARTS, _NUMBERS // (size * size), _WIDEST // joint.widest))
    away = fixed_normals("mode", (starts, size), start)
    away[0] = 0
    loc, params = start[:size] + away, start[size:].expand(starts, -1)
    loc = climb(joint, loc, params, _STEPS)
    value, gradient, hessian = joint.curvature(loc, params)
    step, found = newton(gradient, hessian)
    reached = _reached(value, gradient, step, hessian, found)
    if not bool(reached.any()):
        return None
    mass = value + 0.5 * (size * math.log(2 * math.pi) - found.log_det)
    best = int(torch.where(reached, mass, torch.full_like(mass, -math.inf)).argmax())
    return Mode(loc[best].clone(), found.inverse_root()[best].clone())


def _reached(value: Tensor, gradient: Tensor, step: Tensor, hessian: Tensor, found: Curvature) -> Tensor:
    """Which rows `(C,)` stand at a mode."""
    finite = value.isfinite() & hessian.isfinite().all(-1).all(-1)
    left = (gradient * step).sum(-1).clamp_min(0).sqrt()
    return finite & (left < _REACHED) & (found.signed.amin(-1) > _FLAT * found.signed.amax(-1))
