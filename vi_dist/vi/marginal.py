"""The guide of one query inside a joint guide."""

from __future__ import annotations

import torch
from torch.distributions import (
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
)
from torch.distributions.transforms import ReshapeTransform, Transform

from vi_dist.errors import ModelError
from vi_dist.model.delta import Delta
from vi_dist.vi.bijection import is_identity


def marginal(joint: Distribution, span: slice, shape: torch.Size, transform: Transform) -> Distribution:
    """The marginal of a distribution over coordinates `(d,)`, in the space of one query.

    Known for Gaussians and point masses. Raises `ModelError` for other joint guides.

    Args:
        joint: a distribution of event shape `(d,)`.
        span: the query's coordinates.
        shape: the shape of the query's unconstrained value.
        transform: the bijection onto the query's support.
    """
    if isinstance(joint, Delta):
        value = transform(joint.v[span].reshape(shape))
        return Delta(value, event_dim=transform.codomain.event_dim)
    base = _reshaped(_slice(joint, span), shape)
    return base if is_identity(transform) else TransformedDistribution(base, [transform])


def _slice(joint: Distribution, span: slice) -> Distribution:
    if isinstance(joint, LowRankMultivariateNormal):
        return LowRankMultivariateNormal(joint.loc[span], joint.cov_factor[span], joint.cov_diag[span])
    if isinstance(joint, MultivariateNormal):
        return MultivariateNormal(joint.loc[span], joint.covariance_matrix[span, span])
    if isinstance(joint, Independent) and isinstance(joint.base_dist, Normal):
        return Independent(Normal(joint.mean[span], joint.stddev[span]), 1)
    raise ModelError(
        f"the marginals of a joint {type(joint).__name__} guide are not known in closed form; draw worlds instead",
        key="guide",
    )


def _reshaped(base: Distribution, shape: torch.Size) -> Distribution:
    """A Gaussian over `(n,)` as one over `shape`; still a Normal where there is only one coordinate."""
    if shape.numel() == 1:
        return Normal(base.mean.reshape(shape), base.stddev.reshape(shape))
    return (
        base
        if len(shape) == 1
        else TransformedDistribution(base, [ReshapeTransform(base.event_shape, shape)])
    )
