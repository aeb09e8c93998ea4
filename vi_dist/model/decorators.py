"""The three words of the language: `random_variable`, `functional`, `param`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from vi_dist.errors import ModelError
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.world import current_world


def random_variable(f: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a function that returns a ``torch.distributions.Distribution`` into a random variable.

    Calling it gives its `RVIdentifier`; inside a `World`, its value.

    >>> from torch.distributions import Normal
    >>> @random_variable
    ... def theta(i):
    ...     return Normal(0.0, 1.0)
    >>> str(theta(3))
    'theta(3)'
    """
    key = _key(f)

    @wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        node = RVIdentifier(wrapper, key(args, kwargs))
        world = current_world()
        return node if world is None else world.update_graph(node)

    return _mark(wrapper, "is_random_variable")


def functional(f: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a function of random variables into a query: an `RVIdentifier`, or inside a `World` its computed value."""
    key = _key(f)

    @wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        arguments = key(args, kwargs)
        node = RVIdentifier(wrapper, arguments)
        return node if current_world() is None else node.compute()

    return _mark(wrapper, "is_functional")


def param(init_fn: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a function that returns a first value (a floating-point tensor) into a tensor to be optimised.

    Calling it gives its `RVIdentifier`; inside a `World`, the tensor, which the first call initialises.
    """
    key = _key(init_fn)

    @wraps(init_fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        node = RVIdentifier(wrapper, key(args, kwargs))
        world = current_world()
        return node if world is None else world.get_param(node)

    return _mark(wrapper, "is_param")


def _mark(wrapper: Callable[..., Any], kind: str) -> Callable[..., Any]:
    for name in ("is_random_variable", "is_functional", "is_param"):
        setattr(wrapper, name, name == kind)
    return wrapper


def _key(f: Callable[..., Any]) -> Callable[[tuple[Any, ...], dict[str, Any]], tuple[Any, ...]]:
    """How a call becomes a key: keywords and defaults take their positions, so that x(1), x(i=1) are one variable."""
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):  # some classes and builtins have none
        signature = None
    empty = inspect.Parameter.empty
    defaults = signature is not None and any(p.default is not empty for p in signature.parameters.values())

    def key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        if signature is None or not (kwargs or defaults):
            return args
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.kwargs:
            raise ModelError(
                f"{getattr(f, '__name__', f)} has keyword-only arguments, which cannot be part of its key"
            )
        return bound.args

    return key
