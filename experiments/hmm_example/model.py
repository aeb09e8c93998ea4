"""A hidden Markov model of two states, its states summed out."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import Dirichlet, Distribution, Normal, constraints
from torch.distributions.constraints import Constraint

from vi_dist import Model, random_variable
from vi_dist.model.ordered import positive_ordered


def build(data: dict[str, Tensor]) -> Model:
    """Let each ``y[t]`` be ``Normal(mu[state], 1)`` of a hidden state; both states have weight 1 at the first time.

    ``theta1, theta2 ~ Dirichlet(1, 1)``, the probabilities of the next state after the first and after the second;
    ``mu[0] ~ Normal(3, 1)`` and ``mu[1] ~ Normal(10, 1)``, of which only ``0 < mu[0] < mu[1]`` is kept.

    Args:
        data: ``y`` of shape ``[times]``.
    """
    y = data["y"]

    @random_variable
    def theta1() -> Distribution:
        return Dirichlet(y.new_ones(2))

    @random_variable
    def theta2() -> Distribution:
        return Dirichlet(y.new_ones(2))

    @random_variable
    def mu() -> Distribution:
        return OrderedLevels(y.new_tensor([3.0, 10.0]))

    @random_variable
    def observed() -> Distribution:
        return HiddenMarkov(torch.stack([theta1(), theta2()]), mu(), len(y))

    return Model(queries=[theta1(), theta2(), mu()], observations={observed(): y})


class OrderedLevels(Distribution):
    """Independent normals of standard deviation 1, restricted to increasing positive values, not renormalised.

    Args:
        centres: increasing and positive, ``[levels]``.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}
    support = positive_ordered

    def __init__(self, centres: Tensor) -> None:
        self.each = Normal(centres, torch.ones_like(centres))
        super().__init__(event_shape=centres.shape)

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """The centres: a typical value, which is what guides start from."""
        return self.each.loc.expand(Size(sample_shape) + self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at increasing positive values ``(*batch, levels)``."""
        return self.each.log_prob(value).sum(-1)


class HiddenMarkov(Distribution):
    """Observations of a chain of hidden states, each ``Normal(level of the state, 1)``.

    Args:
        transition: probabilities from each state (row) to the next, ``[states, states]``.
        levels: ``[states]``.
        times: number of observations.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}
    support = constraints.real_vector

    def __init__(self, transition: Tensor, levels: Tensor, times: int) -> None:
        self.transition, self.levels = transition, levels
        super().__init__(event_shape=Size((times,)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Sum over all paths by the forward algorithm.

        The matrices of the single steps are multiplied in pairs, so that it takes log2(times) operations on tensors
        and not one for each time (Hassan, Särkkä and García-Fernández, arXiv 2102.05743).
        """
        emission = Normal(self.levels, 1.0).log_prob(value[:, None])
        steps = self.transition.log() + emission[1:, None, :]
        while len(steps) > 1:
            pairs, left_over = len(steps) // 2, steps[len(steps) // 2 * 2 :]
            first, second = steps[0 : 2 * pairs : 2], steps[1 : 2 * pairs : 2]
            product = torch.logsumexp(first[:, :, :, None] + second[:, None, :, :], dim=2)
            steps = torch.cat([product, left_over])
        return torch.logsumexp(emission[0][:, None] + steps[0], dim=(0, 1))
