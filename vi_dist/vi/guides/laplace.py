"""Laplace's approximation: the mode in unconstrained space, and the Gaussian of the log joint's curvature there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from vi_dist.model.delta import Delta
from vi_dist.vi.guides.family import INITIAL_SCALE, Family, Leaves, Scale
from vi_dist.vi.guides.mean_field import LOG_SQRT_2PI

if TYPE_CHECKING:
    from vi_dist.vi.log_joint import LogJoint

# Newton steps that polish the mode, the fractions of a step that are tried, and the gain in log joint that ends them.
_POLISH, _FRACTIONS, _GAIN = 20, 12, 1e-12
# Where a step promises so little, relative to the log joint, rounding errors choose among fractions of it: it is taken
# whole.
_NEAR = 1e-8
# Curvature below this part of the largest counts as none; the norm of the gradient, in standard deviations, at a mode.
_FLAT, _AT_MODE = 1e-10, 1e-3


class SettledLaplace(Family):
    """q(z) = Normal(z; loc, scale_tril scale_tril^T), the guide that `Laplace.settle` returns."""

    def initial(self, loc: Tensor, scale: Scale = INITIAL_SCALE) -> dict[str, Tensor]:
        return {
            "loc": loc.clone(),
            "scale_tril": torch.eye(self.size, dtype=loc.dtype, device=loc.device) * scale,
        }

    def draw(self, leaves: Leaves, noise: Tensor) -> Tensor:
        return leaves["loc"][:, None] + noise @ leaves["scale_tril"].transpose(-1, -2)

    def log_prob(self, leaves: Leaves, z: Tensor) -> Tensor:
        root = leaves["scale_tril"]
        centred = (z - leaves["loc"][:, None]).transpose(-1, -2)
        standard = torch.linalg.solve_triangular(root, centred, upper=False)
        return -0.5 * (standard * standard).sum(-2) - self._constant(root)[:, None]

    def checked_log_q(self, leaves: Leaves, noise: Tensor, z: Tensor) -> Tensor:
        return -0.5 * (noise * noise).sum(-1) - self._constant(leaves["scale_tril"])[:, None]

    def _constant(self, root: Tensor) -> Tensor:
        """What does not depend on z in minus log q, `(C,)`."""
        return root.diagonal(dim1=-2, dim2=-1).log().sum(-1) + LOG_SQRT_2PI * self.size

    def distribution(self, leaves: Leaves) -> Distribution:
        return MultivariateNormal(leaves["loc"], scale_tril=leaves["scale_tril"])


class Laplace(Family):
    """q(z) = Normal(z; m, (-H)^-1), m the mode of the joint density of the unconstrained coordinates, H its Hessian.

    It trains as a point, with log |J|: that mode is the one a Gaussian in these coordinates belongs to. `settle` then
    takes a few damped Newton steps to the exact mode and adds the curvature. Where -H is not positive definite (a
    saddle, a ridge, a density without a mode) directions of negative curvature take its absolute value, those of none a
    small one, and the remark says so. Tierney and Kadane (JASA 1986); absolute values as in Gill, Murray and Wright,
    Practical Optimization, 4.4.2.
    """

    has_density: ClassVar[bool] = False

    def initial(self, loc: Tensor, scale: Scale = INITIAL_SCALE) -> dict[str, Tensor]:
        return {"loc": loc.clone()}

    def draw(self, leaves: Leaves, noise: Tensor) -> Tensor:
        if "scale_tril" in leaves:
            return self.settled.draw(leaves, noise)
        return leaves["loc"][:, None].expand(-1, noise.shape[1], -1)

    def log_prob(self, leaves: Leaves, z: Tensor) -> Tensor:
        if "scale_tril" in leaves:
            return self.settled.log_prob(leaves, z)
        return z.new_zeros(z.shape[:2])

    def distribution(self, leaves: Leaves) -> Distribution:
        if "scale_tril" in leaves:
            return self.settled.distribution(leaves)
        return Delta(leaves["loc"], event_dim=1)

    @property
    def settled(self) -> Family:
        return SettledLaplace(self.space)

    def settle(
        self, leaves: Leaves, model_params: Tensor, joint: LogJoint
    ) -> tuple[dict[str, Tensor], list[str]]:
        loc, params = leaves["loc"].to(model_params.dtype), model_params.detach()
        loc = climb(joint, loc, params, _POLISH)
        value, gradient, hessian = joint.curvature(loc, params)
        step, found = newton(gradient, hessian)
        left = (gradient * step).sum(-1).clamp_min(0).sqrt()
        remarks = [_remark(*row) for row in zip(value, left, found.signed, strict=True)]
        return {"loc": loc, "scale_tril": found.inverse_root()}, remarks


@dataclass(frozen=True)
class Curvature:
    """Minus the Hessian, D^-1 V diag(values) V^T D^-1 with the eigenvalues made positive.

    D gives every coordinate a unit of its own, so that neither rounding errors nor the floor under the eigenvalues
    depend on the model's units.

    Attributes:
        values, vectors: eigenvalues `(C, d)`, made positive, and eigenvectors `(C, d, d)` in those units.
        units: the diagonal of D, `(C, d)`.
        signed: the eigenvalues as they are, `(C, d)`.
    """

    values: Tensor
    vectors: Tensor
    units: Tensor
    signed: Tensor

    @property
    def log_det(self) -> Tensor:
        """log det of the matrix with positive eigenvalues, `(C,)`."""
        return (self.values.log() - 2 * self.units.log()).sum(-1)

    def inverse_root(self) -> Tensor:
        """The lower triangular L `(C, d, d)` with L L^T its inverse."""
        # Any square root has a triangular one with the same product: R^T of its QR decomposition.
        root = (self.vectors / self.values.sqrt()[:, None]).transpose(-1, -2)
        upper = torch.linalg.qr(root).R
        lower = (upper * upper.diagonal(dim1=-2, dim2=-1).sign()[..., None]).transpose(-1, -2)
        return self.units[..., None] * lower


def climb(joint: LogJoint, loc: Tensor, params: Tensor, steps: int) -> Tensor:
    """Up to `steps` damped Newton steps from every loc `(C, d)`, each until it gains nothing."""
    rows = torch.arange(len(loc), device=loc.device)
    for _ in range(steps):
        here, own = loc[rows], params[rows]
        value, gradient, hessian = joint.curvature(here, own)
        step, found = newton(gradient, hessian)
        moved, gain = line_search(joint, here, own, value, step)
        near = (gradient * step).sum(-1) < _NEAR * (1 + value.abs())
        whole = near & (found.signed.amin(-1) > _FLAT * found.signed.amax(-1))
        ahead = torch.where(gain[:, None] > 0, moved, here)
        loc = loc.index_copy(0, rows, torch.where(whole[:, None], here + step, ahead))
        rows = rows[gain > _GAIN * (1 + value.abs())]
        if not len(rows):
            break
    return loc


def newton(gradient: Tensor, hessian: Tensor) -> tuple[Tensor, Curvature]:
    """The step (-H)^-1 g `(C, d)` with directions of the wrong curvature turned round, and the curvature."""
    matrix = _sane(-hessian)
    diagonal = matrix.diagonal(dim1=-2, dim2=-1).abs()
    units = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal)).rsqrt()
    signed, vectors = torch.linalg.eigh(units[..., None] * matrix * units[:, None])
    values = signed.abs()
    floor = (_FLAT * values.amax(-1, keepdim=True)).clamp_min(torch.finfo(values.dtype).tiny)
    values = torch.maximum(values, floor)
    along = (vectors.transpose(-1, -2) @ (units * gradient)[..., None])[..., 0] / values
    step = units * (vectors @ along[..., None])[..., 0]
    return step, Curvature(values, vectors, units, signed)


def _sane(matrix: Tensor) -> Tensor:
    """The matrices, the identity in place of one that is not finite: eigh raises on it, neighbours and all."""
    finite = matrix.isfinite().all(-1).all(-1)[:, None, None]
    return torch.where(finite, matrix, torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device))


def line_search(
    joint: LogJoint, loc: Tensor, params: Tensor, value: Tensor, step: Tensor
) -> tuple[Tensor, Tensor]:
    """The best of loc + step / 2^k `(C, d)` and what it gains over `value`; gain 0 where nothing does."""
    fractions = 0.5 ** torch.arange(_FRACTIONS, dtype=loc.dtype, device=loc.device)
    tried = loc[:, None] + fractions[:, None] * step[:, None]
    rows = torch.cat((tried, params[:, None].expand(-1, _FRACTIONS, -1)), -1)
    with torch.no_grad():
        gains = joint.value(rows.flatten(0, 1)).reshape(tried.shape[:2]) - value[:, None]
    gains = torch.where(gains.isfinite(), gains, torch.zeros_like(gains))
    best = gains.argmax(-1)
    moved = tried.gather(1, best[:, None, None].expand(-1, 1, loc.shape[1]))[:, 0]
    return moved, gains.amax(-1).clamp_min(0)


def _remark(value: Tensor, left: Tensor, values: Tensor) -> str:
    """What a user must know of one configuration's mode, from its log joint, the Newton decrement and the curvature."""
    if not bool(value.isfinite()):
        return "the log joint is not finite where training ended, so there is no Laplace approximation"
    bad = int((values <= _FLAT * values.abs().max()).sum())
    words = []
    if bad:
        words.append(
            f"{bad} of {len(values)} directions at the end point have no negative curvature, so it is no mode of the "
            "unconstrained density; their scale is a guess (absolute curvature)"
        )
    if float(left) > _AT_MODE:
        words.append(
            f"the mode was not reached: the next Newton step is {float(left):.2g} standard deviations long"
        )
    return "; ".join(words)
