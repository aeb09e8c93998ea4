"""Ordered vectors, which torch lacks: constraints, their bijections from unconstrained space, and a distribution.

Importing this module registers the bijections with `torch.distributions.biject_to` and `transform_to`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, biject_to, constraints, transform_to
from torch.distributions.constraints import Constraint, dependent_property
from torch.distributions.transforms import Transform

from vi_dist.model.image import simplified
from vi_dist.model.support import support_of


class _Ordered(Constraint):
    """Vectors whose elements increase strictly."""

    is_discrete = False
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        """Whether the last dimension increases, `(*batch)`."""
        return (value[..., 1:] > value[..., :-1]).all(-1)


class _PositiveOrdered(_Ordered):
    """Vectors of positive elements that increase strictly."""

    def check(self, value: Tensor) -> Tensor:
        """Whether the last dimension is positive and increases, `(*batch)`."""
        return super().check(value) & (value > 0).all(-1)


ordered: Constraint = _Ordered()
positive_ordered: Constraint = _PositiveOrdered()


class OrderedTransform(Transform):
    """Real vectors to ordered ones: y_1 = x_1, y_k = y_{k-1} + e^{x_k}; log |det| is the sum of x_2, x_3, ...

    >>> OrderedTransform()(torch.tensor([-1.0, 0.0, 0.0]))
    tensor([-1.,  0.,  1.])

    (Stan reference manual, "Ordered vector".)
    """

    domain = constraints.real_vector
    codomain = ordered
    bijective = True

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def _call(self, x: Tensor) -> Tensor:
        return torch.cumsum(torch.cat((x[..., :1], torch.exp(x[..., 1:])), -1), -1)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.cat((y[..., :1], torch.log(y[..., 1:] - y[..., :-1])), -1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """log |det dy/dx|, `(*batch)`."""
        return x[..., 1:].sum(-1)


class PositiveOrderedTransform(OrderedTransform):
    """Real vectors to positive ordered ones: y_1 = e^{x_1}, y_k = y_{k-1} + e^{x_k}; log |det| is the sum of x.

    >>> PositiveOrderedTransform()(torch.zeros(3))
    tensor([1., 2., 3.])

    (Stan reference manual, "Positive ordered vector".)
    """

    codomain = positive_ordered

    def _call(self, x: Tensor) -> Tensor:
        return torch.cumsum(torch.exp(x), -1)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.log(torch.cat((y[..., :1], y[..., 1:] - y[..., :-1]), -1))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """log |det dy/dx|, `(*batch)`."""
        return x.sum(-1)


def _ordered_transform(constraint: Constraint) -> Transform:
    return OrderedTransform()


def _positive_ordered_transform(constraint: Constraint) -> Transform:
    return PositiveOrderedTransform()


for _registry in (biject_to, transform_to):
    _registry.register(ordered, _ordered_transform)
    _registry.register(positive_ordered, _positive_ordered_transform)


class Ordered(Distribution):
    """`size` independent draws of a distribution, sorted: density size! prod_k p(y_k) on increasing y.

    >>> Ordered(torch.distributions.Normal(0.0, 5.0), 3).event_shape
    torch.Size([3])

    Args:
        base: a continuous distribution of single numbers, over the reals or the positive reals.
        size: how many of them.

    Raises:
        ValueError: a base with another support (there is no bijection), of vectors, or discrete; a size below 1.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}

    def __init__(self, base: Distribution, size: int, validate_args: bool | None = None) -> None:
        if size < 1:
            raise ValueError(f"size is {size}; an ordered vector has at least one element")
        support = simplified(support_of(base))
        if base.event_shape or not _is_line(support):
            raise ValueError(
                f"{type(base).__name__} has event shape {list(base.event_shape)} and support {support}; an "
                "ordered vector needs a distribution of single real or positive numbers"
            )
        self.base = base
        self._positive = support is not constraints.real
        super().__init__(base.batch_shape, Size((size,)), validate_args=validate_args)

    @dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> Constraint:
        """`ordered`, or `positive_ordered` where the base is positive."""
        return positive_ordered if self._positive else ordered

    def expand(self, batch_shape: Size | list[int] | tuple[int, ...], _instance: Any = None) -> Ordered:
        """The same distribution with a larger batch shape."""
        return Ordered(self.base.expand(Size(batch_shape)), self.event_shape[0], validate_args=False)

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Sorted draws `(*sample_shape, *batch, size)`."""
        draws = self.base.sample(Size((*sample_shape, *self.event_shape)))
        return draws.movedim(len(sample_shape), -1).sort(-1).values

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density `(*batch)` at increasing values `(*batch, size)`; minus infinity at others."""
        if self._validate_args:
            self._validate_sample(value)
        each = self.base.log_prob(value.movedim(-1, 0)).movedim(0, -1)
        total = each.sum(-1) + math.lgamma(self.event_shape[0] + 1)
        return torch.where(ordered.check(value), total, torch.full_like(total, -math.inf))


def _is_line(support: Any) -> bool:
    return support in (constraints.real, constraints.positive, constraints.nonnegative)
