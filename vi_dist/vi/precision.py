"""One floating-point type for a model and the constants that it closes over."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map


class OnePrecision(TorchFunctionMode):
    """Call torch's functions again, all floats cast to the model's type, where they refuse to mix types.

    A module's weights and data closed over have a type of their own, and the model runs in that of the fit and in
    float64. Most functions take both, as `a + b` does, and are left alone; `a @ b` refuses.

    Value checks in the constructors of `torch.distributions` that no argument turns off (of `Wishart`) pass where a
    value cannot be read because it is being traced.

    Args:
        dtype: the model's.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """`func` of the arguments as they are or, where it refuses those, of one floating-point type."""
        try:
            return func(*args, **(kwargs or {}))
        except (RuntimeError, TypeError):
            if func is Tensor.__bool__ and _constructs_distribution(sys._getframe(1)):
                return False
            dtypes = {leaf.dtype for leaf in tree_leaves((args, kwargs)) if _is_float(leaf)}
            if len(dtypes) < 2:
                raise
            return _cast_and_call(func, args, kwargs or {}, self._dtype)


def _cast_and_call(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], dtype: torch.dtype
) -> Any:
    # What is written to stays itself, and the others take its type.
    name = getattr(func, "__name__", "")
    in_place = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
    if in_place and args and _is_float(args[0]):
        target: torch.dtype = args[0].dtype
    else:
        target = dtype

    def cast(leaf: Any) -> Any:
        return leaf.to(target) if _is_float(leaf) else leaf

    args, kwargs = tree_map(cast, (args, dict(kwargs)))
    return func(*args, **kwargs)


def _is_float(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _constructs_distribution(frame: Any) -> bool:
    """Whether the call comes from the constructor of one of torch's distributions."""
    while frame.f_code.co_name == "__torch_function__":  # of modes around this one
        frame = frame.f_back
    module = frame.f_globals.get("__name__", "")
    return frame.f_code.co_name == "__init__" and module.startswith("torch.distributions.")


class _SeesParameters(TorchFunctionMode):
    """Keep the trainable `torch.nn.Parameter`s that torch's functions are called with."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, Parameter] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """`func` of the arguments."""
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Parameter) and leaf.requires_grad:
                self.found[id(leaf)] = leaf
        return func(*args, **(kwargs or {}))


@contextmanager
def parameters_used() -> Iterator[list[Parameter]]:
    """The trainable parameters of modules that a model uses meanwhile; the list is filled at the end."""
    used: list[Parameter] = []
    with _SeesParameters() as mode:
        yield used
    used.extend(mode.found.values())
