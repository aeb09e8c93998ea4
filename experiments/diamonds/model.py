"""Prices of 5,000 diamonds: a linear regression on 24 nearly collinear columns."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Normal, StudentT, constraints
from torch.distributions.constraints import Constraint

from vi_dist import Model, random_variable


def build(data: dict[str, Tensor]) -> Model:
    """Regress the logarithm of the price on the centred columns of the design.

    ``b ~ Normal(0, 1)``, ``intercept ~ StudentT(3, 8, 10)``, ``sigma ~ HalfStudentT(3, 10)`` and
    ``log_price ~ Normal(intercept + centred @ b, sigma)``.

    Args:
        data: ``design`` of shape ``[diamonds, 24]`` without a column of ones, ``log_price`` of shape ``[diamonds]``.
    """
    observed = data["log_price"]
    centred = data["design"] - data["design"].mean(0)

    @random_variable
    def b() -> Distribution:
        return Normal(observed.new_zeros(centred.shape[1]), 1.0)

    @random_variable
    def intercept() -> Distribution:
        return StudentT(observed.new_tensor(3.0), 8.0, 10.0)

    @random_variable
    def sigma() -> Distribution:
        return HalfStudentT(observed.new_tensor(3.0), observed.new_tensor(10.0))

    @random_variable
    def log_price() -> Distribution:
        return Normal(intercept() + centred @ b(), sigma())

    return Model(queries=[b(), intercept(), sigma()], observations={log_price(): observed})


class HalfStudentT(Distribution):
    """The absolute value of a Student-t variable with its centre at 0, which torch lacks.

    Args:
        df: degrees of freedom.
        scale: of the Student-t variable; both a scalar or of one shape.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {
        "df": constraints.positive,
        "scale": constraints.positive,
    }
    support = constraints.nonnegative

    def __init__(self, df: Tensor, scale: Tensor) -> None:
        self.df, self.scale = df, scale
        self._whole = StudentT(df, torch.zeros_like(scale), scale)
        super().__init__(self._whole.batch_shape)

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws ``(*sample_shape, *batch)``."""
        return self._whole.sample(Size(sample_shape)).abs()

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at positive values: twice the Student-t's."""
        return self._whole.log_prob(value) + math.log(2.0)
