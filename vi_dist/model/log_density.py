"""The log density of a value under a distribution of torch's: of counts and truths too, and without boolean masks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Geometric,
    Independent,
    MixtureSameFamily,
    Multinomial,
    Wishart,
)
from torch.distributions.utils import _sum_rightmost as sum_rightmost

from vi_dist.model.support import support_of


def log_density(distribution: Distribution, value: Tensor) -> Tensor:
    """log p(value), of the distribution's batch shape.

    Integers, booleans and floats of fewer digits are cast to the floating-point type that the distribution computes
    in: the logarithm of a value is of the value's own precision. A distribution that
    cannot take floats, as one that looks its values up in a table, gets them as they are.
    """
    number = as_number(distribution, value)
    try:
        return _log_prob(distribution, number)
    except (IndexError, RuntimeError, TypeError):
        if number is value:
            raise
        return _log_prob(distribution, value)


def as_number(distribution: Distribution, value: Tensor) -> Tensor:
    """The value in the floating-point type of the distribution's parameters; one of more digits stays as it is.

    >>> as_number(torch.distributions.Bernoulli(torch.tensor(0.5, dtype=torch.float64)), torch.tensor([True, False]))
    tensor([1., 0.], dtype=torch.float64)
    """
    if value.is_complex():
        return value
    dtypes = {one.dtype for one in _tensors(distribution) if one.is_floating_point()}
    widest = functools.reduce(torch.promote_types, dtypes) if dtypes else torch.get_default_dtype()
    return value.to(torch.promote_types(widest, value.dtype))


def _tensors(distribution: Distribution) -> Iterator[Tensor]:
    """The tensors that a distribution holds, those of the distributions inside it last."""
    held = list(vars(distribution).values())
    yield from (one for one in held if isinstance(one, Tensor))
    for one in held:
        if isinstance(one, Distribution):
            yield from _tensors(one)


def _log_prob(distribution: Distribution, value: Tensor) -> Tensor:
    replacement = REPLACEMENTS.get(type(distribution))
    log_prob: Tensor = (
        distribution.log_prob(value) if replacement is None else replacement(distribution, value)
    )
    return log_prob


def _independent(distribution: Independent[Any], value: Tensor) -> Tensor:
    each = _log_prob(distribution.base_dist, value)
    summed: Tensor = sum_rightmost(each, distribution.reinterpreted_batch_ndims)
    return summed


def _geometric(distribution: Geometric, value: Tensor) -> Tensor:
    """y log(1 - p) + log p; the first term is 0 at y = 0 also where p = 1."""
    probs = distribution.probs
    at_once = (probs == 1) & (value == 0)
    return value * torch.log1p(-torch.where(at_once, 0.0, probs)) + probs.log()


def _multinomial(distribution: Multinomial, value: Tensor) -> Tensor:
    """log n! - sum_k log y_k! + sum_k y_k log p_k; a term of the last sum is 0 at y_k = 0 also where p_k = 0."""
    logits = distribution.logits
    absent = (value == 0) & (logits == -torch.inf)
    powers = (value * torch.where(absent, 0.0, logits)).sum(-1)
    return torch.lgamma(value.sum(-1) + 1) - torch.lgamma(value + 1).sum(-1) + powers


def _mixture(distribution: MixtureSameFamily, value: Tensor) -> Tensor:
    """log sum_k w_k p_k(y); a component has density 0 outside of its own support, which torch does not look at."""
    components = distribution.component_distribution
    padded = value.unsqueeze(-1 - len(distribution.event_shape))
    each = _log_prob(components, padded)
    support = support_of(components)
    if support is not None and _has_bounds(support):
        each = torch.where(support.check(padded), each, -torch.inf)
    return torch.logsumexp(each + torch.log_softmax(distribution.mixture_distribution.logits, -1), -1)


def _has_bounds(support: object) -> bool:
    """Whether a support has bounds that differ from element to element."""
    return any(isinstance(one, Tensor) and one.dim() > 0 for one in vars(support).values())


def _wishart(distribution: Wishart, value: Tensor) -> Tensor:
    """torch's own, which only its constructor refuses where df is at most n - 1: no number there."""
    proper = distribution.df > distribution.event_shape[-1] - 1
    return torch.where(proper, distribution.log_prob(value), torch.nan)


# The types are exact: what a subclass says is its own.
REPLACEMENTS: dict[type[Distribution], Callable[[Any, Tensor], Tensor]] = {
    Geometric: _geometric,
    Independent: _independent,
    MixtureSameFamily: _mixture,
    Multinomial: _multinomial,
    Wishart: _wishart,
}
"""Log densities for those of torch's own that read values in Python, or that hold others of these."""
