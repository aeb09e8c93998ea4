"""All mass at one point: the guide of a point estimate."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.constraints import Constraint, dependent_property


class Delta(Distribution):
    """A point mass at `v`, of which `log_prob` is `log_density` at the point and minus infinity elsewhere.

    >>> Delta(torch.tensor([1.0, 2.0]), event_dim=1).sample((3,)).shape
    torch.Size([3, 2])

    Args:
        v: the point, ``(*batch, *event)``.
        log_density: what `log_prob` gives at the point, a number or ``(*batch)``.
        event_dim: how many of v's last dimensions make up one event.
    """

    has_rsample = True
    arg_constraints: ClassVar[dict[str, Constraint]] = {}

    def __init__(
        self,
        v: Tensor,
        log_density: Tensor | float = 0.0,
        event_dim: int = 0,
        validate_args: bool | None = None,
    ) -> None:
        if event_dim > v.dim():
            raise ValueError(f"event_dim is {event_dim}, but the point has {v.dim()} dimensions")
        batch_shape, event_shape = v.shape[: v.dim() - event_dim], v.shape[v.dim() - event_dim :]
        self.v = v
        dtype = v.dtype if v.is_floating_point() else None
        self.log_density = torch.as_tensor(log_density, dtype=dtype, device=v.device).expand(batch_shape)
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    @dependent_property(is_discrete=False)
    def support(self) -> Constraint:
        """The real numbers: whoever builds the point keeps it where it belongs."""
        dimensions = len(self.event_shape)
        return constraints.independent(constraints.real, dimensions) if dimensions else constraints.real

    @property
    def mean(self) -> Tensor:
        """The point."""
        return self.v

    @property
    def mode(self) -> Tensor:
        """The point."""
        return self.v

    @property
    def variance(self) -> Tensor:
        """Zero."""
        return torch.zeros_like(self.v)

    def expand(self, batch_shape: Size | list[int] | tuple[int, ...], _instance: Any = None) -> Delta:
        """The same point, repeated over a larger batch."""
        shape = torch.Size(batch_shape)
        event_dim = len(self.event_shape)
        return Delta(self.v.expand(shape + self.event_shape), self.log_density.expand(shape), event_dim)

    def rsample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """The point, once per sample."""
        return self.v.expand(torch.Size(sample_shape) + self.v.shape)

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """The point, once per sample, without gradient."""
        return self.rsample(sample_shape).detach()

    def log_prob(self, value: Tensor) -> Tensor:
        """`log_density` where value is the point in every coordinate of the event, else minus infinity."""
        same = value == self.v
        for _ in self.event_shape:
            same = same.all(-1)
        return torch.where(same, self.log_density, torch.full_like(self.log_density, -torch.inf))
