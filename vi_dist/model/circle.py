"""Values of which those a period apart are the same, such as angles, and their coordinates."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import Transform


class Circle(Constraint):
    """All real numbers, of which those a period apart are the same; the bijection's values are one period.

    Args:
        center: middle of the period that the bijection's values are in, `(*batch)`.
        period: length of the period.
    """

    is_discrete = False
    event_dim = 0

    def __init__(self, center: Tensor, period: float) -> None:
        self.center, self.period = center, period
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Whether each value is a finite number."""
        return torch.isfinite(value)

    def __repr__(self) -> str:
        return f"real numbers with period {self.period:.6g}"


class CircleTransform(Transform):
    """Real numbers to one period: y = center + period (sigmoid(x) - 1/2).

    The inverse takes values of any period. log |dy/dx| = log period + log sigmoid(x) + log sigmoid(-x).
    """

    domain = constraints.real
    bijective = True
    sign = 1

    def __init__(self, center: Tensor, period: float) -> None:
        super().__init__()
        self.center, self.period = center, period

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def codomain(self) -> Constraint:
        """One period."""
        return Circle(self.center, self.period)

    def _call(self, x: Tensor) -> Tensor:
        return self.center + self.period * (torch.sigmoid(x) - 0.5)

    def _inverse(self, y: Tensor) -> Tensor:
        share = (y - self.center) / self.period + 0.5
        return torch.logit(share - torch.floor(share))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """log |dy/dx|, of the shape of x."""
        logsigmoid = torch.nn.functional.logsigmoid
        return math.log(self.period) + logsigmoid(x) + logsigmoid(-x)


def circle(center: Tensor) -> Circle:
    """Angles: numbers of period 2 pi, the bijection's values within pi of the center."""
    return Circle(center, 2 * math.pi)


def _biject_to_circle(support: Circle) -> Transform:
    return CircleTransform(support.center, support.period)


biject_to.register(Circle, _biject_to_circle)
