"""Bijections that torch lacks: onto Cholesky factors, positive definite matrices and the supports of mixtures.

Importing this module registers them with `torch.distributions.biject_to`, which knows none for these constraints.
"""

from __future__ import annotations

import math
from copy import copy
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.constraints import Constraint, MixtureSameFamilyConstraint
from torch.distributions.transforms import Transform

from vi_dist.model.image import Image


class CholeskyVectorTransform(Transform):
    """Vectors `(*batch, n(n+1)/2)` to lower-triangular matrices of positive diagonal `(*batch, n, n)`, row by row.

    An element below the diagonal is a coordinate, one on it is e to a coordinate; log |det| is the sum of the latter.

    >>> CholeskyVectorTransform()(torch.tensor([0.0, 5.0, 0.0]))
    tensor([[1., 0.],
            [5., 1.]])

    (Stan reference manual, "Cholesky factors of covariance matrices".)
    """

    domain = constraints.real_vector
    codomain: Constraint = constraints.lower_cholesky
    bijective = True

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def forward_shape(self, shape: Any) -> Size:
        """The shape of the matrices of vectors of a shape."""
        size = _rows(shape[-1])
        return Size((*shape[:-1], size, size))

    def inverse_shape(self, shape: Any) -> Size:
        """The shape of the vectors of matrices of a shape."""
        return Size((*shape[:-2], shape[-1] * (shape[-1] + 1) // 2))

    def _call(self, x: Tensor) -> Tensor:
        size = _rows(x.shape[-1])
        # Element (i, j) below the diagonal is coordinate i(i+1)/2 + j; all others are the zero behind the last one.
        row = torch.arange(size, device=x.device)
        below = row[:, None] > row
        index = torch.where(below, (row * (row + 1) // 2)[:, None] + row, x.shape[-1])
        lower = torch.cat((x, torch.zeros_like(x[..., :1])), -1)[..., index]
        return lower + torch.diag_embed(x[..., _diagonal(size, x.device)].exp())

    def _inverse(self, y: Tensor) -> Tensor:
        size = y.shape[-1]
        logs = torch.diag_embed(y.diagonal(dim1=-2, dim2=-1).log())
        row, column = torch.tril_indices(size, size, device=y.device)
        return (y.tril(-1) + logs)[..., row, column]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """log |det dy/dx|, `(*batch)`."""
        return x[..., _diagonal(_rows(x.shape[-1]), x.device)].sum(-1)


class PositiveDefiniteVectorTransform(CholeskyVectorTransform):
    """Vectors `(*batch, n(n+1)/2)` to positive definite matrices L L^T, by L of `CholeskyVectorTransform`.

    log |det| of L to L L^T is n log 2 + sum_i (n - i) log L_ii, i = 0, 1, ...

    (Stan reference manual, "Covariance matrices".)
    """

    codomain = constraints.positive_definite

    def _call(self, x: Tensor) -> Tensor:
        root = super()._call(x)
        return root @ root.mT

    def _inverse(self, y: Tensor) -> Tensor:
        return super()._inverse(torch.linalg.cholesky(y))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """log |det dy/dx| for the elements of y on and below the diagonal, `(*batch)`."""
        size = _rows(x.shape[-1])
        logs = x[..., _diagonal(size, x.device)]
        powers = torch.arange(size + 1, 1, -1, dtype=x.dtype, device=x.device)
        return (powers * logs).sum(-1) + size * math.log(2.0)


def _rows(count: int) -> int:
    """n of n(n+1)/2."""
    return (math.isqrt(8 * count + 1) - 1) // 2


def _diagonal(size: int, device: torch.device) -> Tensor:
    """Coordinates of the diagonal's elements, `(n,)`: i(i+3)/2."""
    row = torch.arange(size, device=device)
    return row * (row + 3) // 2


def _hull(constraint: Constraint, axis: int) -> Constraint:
    """The smallest interval that holds all components' supports, whose bounds have the components along an axis."""
    if isinstance(constraint, Image):
        raise NotImplementedError("the hull of images under transforms that differ is not known")
    hull = copy(constraint)
    for name, value in vars(constraint).items():
        if isinstance(value, Constraint):
            setattr(hull, name, _hull(value, axis))
        elif isinstance(value, Tensor) and value.dim() >= -axis:
            setattr(hull, name, value.amin(axis) if name == "lower_bound" else value.amax(axis))
    return hull


def _cholesky(constraint: Constraint) -> Transform:
    return CholeskyVectorTransform()


def _positive_definite(constraint: Constraint) -> Transform:
    return PositiveDefiniteVectorTransform()


def _mixture(constraint: Any) -> Transform:
    base = constraint.base_constraint
    transform: Transform = biject_to(_hull(base, -1 - base.event_dim))
    return transform


biject_to.register(constraints.lower_cholesky, _cholesky)
biject_to.register(constraints.positive_definite, _positive_definite)
biject_to.register(MixtureSameFamilyConstraint, _mixture)
