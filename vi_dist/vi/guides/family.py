"""What a guide family is: how it draws from noise, and its log density; everything batched over configurations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from vi_dist.vi.noise import NoiseSpace

INITIAL_SCALE = 0.1

Leaves = Mapping[str, Tensor]


class Family(ABC):
    """A guide family over d unconstrained coordinates.

    Its parameters ("leaves") are named tensors; in the methods they carry a leading axis of C configurations, and the
    guide of configuration c reads row c only.

    Args:
        space: the d coordinates, grouped by latent, in order.

    Attributes:
        jacobian: whether the objective's joint is that of the unconstrained coordinates (log |J| included). A point
            estimate wants the mode in the model's own space and leaves it out.
        has_density: whether log q exists, and with it an ELBO.
    """

    jacobian: ClassVar[bool] = True
    has_density: ClassVar[bool] = True

    def __init__(self, space: NoiseSpace) -> None:
        self.space = space
        self.size = space.size

    @property
    def noise(self) -> NoiseSpace:
        """The normals behind one sample, E of them; a family that needs more than one a coordinate appends sites."""
        return self.space

    @abstractmethod
    def initial(self, loc: Tensor, scale: float = INITIAL_SCALE) -> dict[str, Tensor]:
        """Leaves, without the leading axis, of a guide centred at loc `(d,)` with the given standard deviation."""

    @abstractmethod
    def draw(self, leaves: Leaves, noise: Tensor) -> Tensor:
        """Unconstrained samples `(C, S, d)` from standard normals `(C, S, E)`, differentiable in the leaves."""

    @abstractmethod
    def log_prob(self, leaves: Leaves, z: Tensor) -> Tensor:
        """Log densities `(C, S)` at z `(C, S, d)`, differentiable in both."""

    @abstractmethod
    def distribution(self, leaves: Leaves) -> Distribution:
        """One guide (leaves without the leading axis) as a torch distribution with event shape `(d,)`."""


def inverse_softplus(scale: float) -> float:
    """x with softplus(x) = scale."""
    return float(torch.tensor(scale, dtype=torch.float64).expm1().log())
