"""The key of a random variable: the decorated function and the arguments it was called with."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vi_dist.errors import ModelError


@dataclass(frozen=True)
class RVIdentifier:
    """One random variable (or functional, or param) of a model.

    Two identifiers are equal when their functions and arguments are. ``str`` gives the name used on every wire:
    ``theta``, ``theta(3)``, ``theta(0, 1)``; the ``self`` of a model written as a class is left out.

    Args:
        wrapper: what a decorator such as `random_variable` returned.
        arguments: the positional arguments; they must be hashable.
    """

    wrapper: Callable[..., Any]
    arguments: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        for argument in self.arguments:
            if isinstance(argument, Tensor) and argument.dim() == 0:
                raise ModelError(
                    f"{self.function.__name__} was called with the tensor {argument}: a tensor is a different key on "
                    "every call; pass a Python number, for example i.item()"
                )

    @property
    def function(self) -> Callable[..., Any]:
        """The function as the user wrote it."""
        function: Callable[..., Any] = self.wrapper.__wrapped__  # type: ignore[attr-defined]
        return function

    @property
    def is_random_variable(self) -> bool:
        """Whether the function returns a distribution."""
        return bool(getattr(self.wrapper, "is_random_variable", False))

    @property
    def is_functional(self) -> bool:
        """Whether the function computes a value from random variables."""
        return bool(getattr(self.wrapper, "is_functional", False))

    @property
    def is_param(self) -> bool:
        """Whether the function gives the first value of a tensor to be optimised."""
        return bool(getattr(self.wrapper, "is_param", False))

    def compute(self) -> Any:
        """What the function returns for the arguments. Raises `ModelError` where it ends the process."""
        try:
            return self.function(*self.arguments)
        except SystemExit as error:
            raise ModelError(
                f"{self} calls sys.exit({error.code!r}){_line_of(error)}, which would end the sweep; let it raise an "
                "error instead",
                key="model",
            ) from error

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RVIdentifier):
            return NotImplemented
        return self.wrapper is other.wrapper and _same(self.arguments, other.arguments)

    def __hash__(self) -> int:
        try:
            return hash((self.wrapper, self.arguments))
        except TypeError as error:
            raise ModelError(
                f"the arguments of {self} cannot be a key ({error}); pass tuples or numbers"
            ) from error

    def __str__(self) -> str:
        arguments = self.arguments[1:] if self._is_method() else self.arguments
        name: str = self.function.__name__
        return f"{name}({', '.join(map(_show, arguments))})" if arguments else name

    def _is_method(self) -> bool:
        """Whether the first argument is the instance on whose class the function was defined."""
        if not self.arguments:
            return False
        name = self.function.__name__
        return any(_plain(vars(cls).get(name)) is self.wrapper for cls in type(self.arguments[0]).__mro__)


def _same(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    """Equality of arguments, where tensors are equal only to themselves (``==`` would be elementwise)."""
    return len(first) == len(second) and all(
        a is b or (not isinstance(a, Tensor) and not isinstance(b, Tensor) and bool(a == b))
        for a, b in zip(first, second, strict=True)
    )


def _line_of(error: BaseException) -> str:
    """Where an error was raised, for a message."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f" (line {frame.lineno} of {frame.filename}, in {frame.name})"


def _plain(attribute: object) -> object:
    return getattr(attribute, "__func__", attribute)


def _show(argument: object) -> str:
    """An argument inside a name; never an address, which would differ from process to process."""
    if isinstance(argument, str):
        return repr(argument)
    if isinstance(argument, Tensor):
        return f"tensor{list(argument.shape)}"
    if type(argument).__str__ is object.__str__ and type(argument).__repr__ is object.__repr__:
        return type(argument).__name__
    return str(argument)
