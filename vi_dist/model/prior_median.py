"""A value near a distribution's median, the same every time it is asked for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from vi_dist.model.seeding import fixed_seed
from vi_dist.model.support import base_of, bijection_of, constraints_of, is_discrete, unconstrained_shape

_DRAWS = 255  # odd, so that the median is one of them


def prior_median(distribution: Distribution) -> Tensor:
    """The elementwise median in unconstrained space, as a value of the distribution's own (constrained) space.

    From the quantile function where there is one, else from draws with a fixed seed; neither touches the global
    random generators. A discrete distribution gives the median of its draws, or one draw where events are vectors. A
    distribution that cannot be drawn from gives the value at coordinates of zero.

    >>> from torch.distributions import LogNormal
    >>> prior_median(LogNormal(0.0, 1.0))
    tensor(1.)
    """
    with torch.no_grad():
        exact = _from_quantile(distribution)
        if exact is not None and bool(exact.isfinite().all()):
            return exact
        try:
            with fixed_seed():
                draws = distribution.sample(torch.Size((_DRAWS,)))
        except NotImplementedError:
            return _origin(distribution)
        return _from_draws(distribution, draws)


def _from_quantile(distribution: Distribution) -> Tensor | None:
    distribution = base_of(distribution)
    if distribution.event_shape or is_discrete(distribution):
        return None
    like = _parameter(distribution)
    half = torch.tensor(0.5, dtype=like.dtype, device=like.device) if like is not None else torch.tensor(0.5)
    try:
        return distribution.icdf(half).expand(distribution.batch_shape).clone()
    except NotImplementedError:
        return None


def _origin(distribution: Distribution) -> Tensor:
    """The value at coordinates of zero: of a prior that is a density without a sampler."""
    transform, like = bijection_of(distribution), _parameter(distribution)
    shape = unconstrained_shape(distribution, transform)
    zeros = torch.zeros(shape) if like is None else like.new_zeros(shape)
    origin: Tensor = transform(zeros)
    return origin


def _parameter(distribution: Distribution) -> Tensor | None:
    """Any floating-point parameter of a distribution, for its dtype and device."""
    for name in constraints_of(distribution):
        value = vars(distribution).get(name)
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    base = vars(distribution).get("base_dist")
    return None if base is None else _parameter(base)


def _from_draws(distribution: Distribution, draws: Tensor) -> Tensor:
    if is_discrete(distribution):
        scalar = not distribution.event_shape and draws.dtype != torch.bool
        return draws.median(0).values if scalar else draws[0]
    try:
        transform = bijection_of(distribution)
    except NotImplementedError:
        return draws[0]
    middle = transform.inv(draws).median(0).values
    # A draw on the boundary of the support has infinite coordinates: start inside instead.
    start: Tensor = transform(torch.where(middle.isfinite(), middle, torch.zeros_like(middle)))
    return start
