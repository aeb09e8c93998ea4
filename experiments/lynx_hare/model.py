"""Pelts of hares and lynx, 1900 to 1920: the Lotka-Volterra equations with noise on each count."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, LogNormal, Normal, constraints
from torch.distributions.constraints import Constraint

from vi_dist import Model, functional, random_variable

# Steps of the solver a year. With two, no logarithm of a population is more than 0.004 from its value with forty,
# anywhere in the posterior; an observation has a standard deviation of 0.25.
STEPS = 2


def build(data: dict[str, Tensor]) -> Model:
    """Solve ``u' = (theta[0] - theta[1] * v) * u`` and ``v' = (theta[3] * u - theta[2]) * v`` from ``z_init``.

    ``theta[0], theta[2] ~ Normal(1, 0.5)`` and ``theta[1], theta[3] ~ Normal(0.05, 0.05)``, positive all of them,
    ``sigma ~ LogNormal(-1, 1)``, ``z_init ~ LogNormal(log 10, 1)``, and every count is ``LogNormal(log z, sigma)``.

    Args:
        data: ``first`` of shape ``[2]`` and ``pelts`` of shape ``[years, 2]``, thousands of hares and of lynx, a year
            apart.
    """
    first, pelts = data["first"], data["pelts"]

    @random_variable
    def theta() -> Distribution:
        return PositiveNormal(first.new_tensor([1, 0.05, 1, 0.05]), first.new_tensor([0.5, 0.05, 0.5, 0.05]))

    @random_variable
    def z_init() -> Distribution:
        return LogNormal(first.new_full((2,), math.log(10.0)), 1.0)

    @random_variable
    def sigma() -> Distribution:
        return LogNormal(first.new_full((2,), -1.0), 1.0)

    @functional
    def log_z() -> Tensor:
        return solve(theta(), z_init().log(), len(pelts))

    @random_variable
    def first_count() -> Distribution:
        return LogNormal(z_init().log(), sigma())

    @random_variable
    def count() -> Distribution:
        return LogNormal(log_z(), sigma())

    observations = {first_count(): first, count(): pelts}
    return Model(queries=[theta(), z_init(), sigma()], observations=observations)


def solve(theta: Tensor, start: Tensor, years: int) -> Tensor:
    """Logarithms of both populations after each year, ``[years, 2]``, by the classical Runge-Kutta method.

    In logarithms the populations stay positive, and the equations are ``x' = own + other * exp(x of the other)``.

    Args:
        theta: the four rates.
        start: logarithms at time 0, ``[2]``.
    """
    own = torch.stack([theta[0], -theta[2]])
    other = torch.stack([-theta[1], theta[3]])
    step = 1 / STEPS

    def slope(x: Tensor) -> Tensor:
        return own + other * x.exp().flip(0)

    x, found = start, []
    for _ in range(years):
        for _ in range(STEPS):
            a = slope(x)
            b = slope(x + step / 2 * a)
            c = slope(x + step / 2 * b)
            d = slope(x + step * c)
            x = x + step / 6 * (a + 2 * (b + c) + d)
        found.append(x)
    return torch.stack(found)


class PositiveNormal(Distribution):
    """A normal variable given that it is positive, which torch lacks.

    Args:
        loc: mean before the restriction.
        scale: standard deviation before it, of the same shape.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.positive

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.loc, self.scale = loc, scale
        super().__init__(loc.shape)

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile function."""
        below = torch.special.ndtr(-self.loc / self.scale)
        return self.loc + self.scale * torch.special.ndtri(below + value * (1 - below))

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws ``(*sample_shape, *batch)``."""
        uniform = torch.rand(
            Size(sample_shape) + self.batch_shape, dtype=self.loc.dtype, device=self.loc.device
        )
        return self.icdf(uniform)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at positive values."""
        return Normal(self.loc, self.scale).log_prob(value) - torch.special.log_ndtr(self.loc / self.scale)
