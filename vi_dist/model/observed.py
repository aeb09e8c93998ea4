"""Whether an observed value can have come from its distribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Size, Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import Transform

from vi_dist.errors import ModelError
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.log_density import as_number
from vi_dist.model.support import support_of
from vi_dist.model.world import World


def check_observed_keys(observations: Mapping[RVIdentifier, Tensor]) -> None:
    """Refuse observations that are not tensors of random variables. Raises `ModelError`, with names."""
    node: object
    value: object
    for node, value in observations.items():
        if not isinstance(node, RVIdentifier) or not node.is_random_variable:
            raise ModelError(
                f"{node} is not a random variable; only results of calling a @random_variable function can be observed",
                key="observations",
            )
        if not isinstance(value, Tensor):
            raise ModelError(
                f"{node} is observed as {type(value).__name__}; pass a tensor, for example torch.as_tensor(value)",
                key="observations",
            )


def check_observation(world: World, node: RVIdentifier, elsewhere: Callable[[], World]) -> None:
    """Refuse an observation that is not finite, of a wrong shape, or outside the support. Raises `ModelError`.

    A support may depend on latents (Uniform(0, theta)), and then the value may be inside it for other latents.

    Args:
        world: a world in which the observed node is instantiated.
        elsewhere: gives a world with other values of the latents; asked only when it matters.
    """
    value, distribution = world[node], world.get_variable(node).distribution
    _check_finite(node, value)
    check_shape(node, value.shape, distribution)
    support = support_of(distribution)
    if support is None:
        return
    inside = support.check(as_number(distribution, value))
    if bool(inside.all()) or not _equal(support, support_of(elsewhere().get_variable(node).distribution)):
        return
    index, bad = _first(~inside, value)
    raise ModelError(
        f"{node} is observed as {bad}{index}, outside the support of its {type(distribution).__name__} ({support}); "
        "correct the value or choose another distribution",
        key="observations",
    )


def check_shape(node: RVIdentifier, shape: Size, distribution: Distribution, role: str = "observed") -> None:
    """Refuse a value that broadcasting would silently repeat, or whose event dimensions differ. `ModelError`.

    `role` says in the message what the value is to the node.
    """
    event, expected = distribution.event_shape, distribution.batch_shape + distribution.event_shape
    try:
        grown = torch.broadcast_shapes(shape, expected).numel() != shape.numel()
    except RuntimeError:
        grown = True
    if grown or shape[len(shape) - len(event) :] != event:
        kind = type(distribution).__name__
        raise ModelError(
            f"{node}, {role}, has shape {list(shape)}, which does not fit its {kind} of batch shape "
            f"{list(distribution.batch_shape)} and event shape {list(event)}; reshape the value or the parameters",
            key="observations",
        )


def _check_finite(node: RVIdentifier, value: Tensor) -> None:
    bad = ~torch.isfinite(value)
    if not bool(bad.any()):
        return
    index, number = _first(bad, value)
    raise ModelError(
        f"{node} is observed as {number}{index}; drop or impute the rows where it is not a finite number",
        key="observations",
    )


def _first(bad: Tensor, value: Tensor) -> tuple[str, object]:
    """Where the first bad element stands, for a message, and its value (an event's, where a check covers one)."""
    if not bad.dim():
        return "", value.tolist()
    position = tuple(bad.nonzero()[0].tolist())
    element = value if value.dim() >= bad.dim() else value.expand_as(bad)
    return f" at index {list(position)}", element[position].tolist()


def _equal(first: object, second: object) -> bool:
    """Whether two supports are the same set, bounds included."""
    if type(first) is not type(second):
        return False
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and bool(torch.equal(first, second))
    if isinstance(first, Transform) and isinstance(second, Transform):
        return bool(first == second) or _equal(_public(first), _public(second))
    if isinstance(first, Constraint):
        return _equal(vars(first), vars(second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_equal(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(_equal, first, second))
    return bool(first == second)


def _public(transform: Transform) -> dict[str, object]:
    """What a transform is made of, without its caches."""
    return {name: value for name, value in vars(transform).items() if not name.startswith("_")}
