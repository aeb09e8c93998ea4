"""One instantiation of a model: values, distributions and the graph between them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, KeysView, Mapping, MutableMapping
from contextvars import ContextVar
from copy import copy
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.distributions import Distribution

from vi_dist.errors import ModelError, SpecError
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.initialize import InitializeFn, init_from_prior, init_to_uniform
from vi_dist.model.rv_dict import RVDict
from vi_dist.model.validation import unvalidated
from vi_dist.model.variable import Variable

# A tuple rather than a list: entering a world in one thread or task leaves the others' worlds alone.
_worlds: ContextVar[tuple[World, ...]] = ContextVar("vi_dist_worlds", default=())


def current_world() -> World | None:
    """The innermost world entered, to which a call of a random variable belongs; None if there is none."""
    worlds = _worlds.get()
    return worlds[-1] if worlds else None


class World(Mapping[RVIdentifier, Tensor]):
    """A model run once, lazily: a variable is instantiated when it is first called, its parents before it.

    Inside ``with world:`` calling a random variable returns its value, the same one every time.

    >>> from torch.distributions import Normal
    >>> from vi_dist.model.decorators import random_variable
    >>> mu = random_variable(lambda: Normal(0.0, 1.0))
    >>> with World({mu(): torch.tensor(2.0)}) as world:
    ...     mu()
    tensor(2.)

    Args:
        observations: values of the observed variables, used as they are.
        initialize_fn: gives a latent its value from its distribution.
        params: values of the model's params; a param that is missing is initialised and added to this mapping.
    """

    def __init__(
        self,
        observations: RVDict | None = None,
        initialize_fn: InitializeFn = init_from_prior,
        params: MutableMapping[RVIdentifier, Tensor] | None = None,
    ) -> None:
        self.observations: RVDict = dict(observations or {})
        self.params: MutableMapping[RVIdentifier, Tensor] = {} if params is None else params
        self._initialize_fn = initialize_fn
        self._variables: dict[RVIdentifier, Variable] = {}
        self._running: dict[RVIdentifier, set[RVIdentifier]] = {}  # the call stack: node, parents met so far

    @classmethod
    def initialize_world(
        cls,
        queries: Iterable[RVIdentifier],
        observations: RVDict | None = None,
        initialize_fn: InitializeFn = init_to_uniform,
        max_retries: int = 100,
        **kwargs: Any,
    ) -> Self:
        """A world with all queries and observations instantiated, at a point of finite log density.

        Values are drawn again until the density is finite. Raises `ModelError`, naming the variables at fault, after
        `max_retries` draws. Further keywords go to the constructor.
        """
        nodes = (*queries, *(observations or {}))
        for _ in range(max_retries):
            world = cls(observations, initialize_fn, **kwargs)
            with unvalidated():
                for node in nodes:
                    world.call(node)
                improbable = world._improbable()
            if not improbable:
                return world
        raise ModelError(
            f"no valid starting point in {max_retries} draws: the log density of {', '.join(map(str, improbable))} is "
            "not finite; check the supports of its distribution and observations, or pass another initialize_fn"
        )

    def call(self, node: RVIdentifier) -> Any:
        """The value of a random variable, functional or param in this world, computed if need be."""
        if not isinstance(node, RVIdentifier):
            raise ModelError(
                f"{node!r} is not a random variable; decorate its function with @random_variable and call it"
            )
        with self:
            return node.wrapper(*node.arguments)

    def get_variable(self, node: RVIdentifier) -> Variable:
        """An instantiated variable: value, distribution, log_prob, parents and children. Raises `KeyError`."""
        try:
            return self._variables[self._resolve(node)]
        except KeyError:
            raise KeyError(f"{node} is not instantiated in this world; world.call(...) does that") from None

    def get_distribution(self, node: RVIdentifier) -> Distribution:
        """What the model's function returns for a node at this world's values; only its parents are instantiated.

        Raises `ModelError` unless that is a distribution.
        """
        try:
            with self:
                distribution = node.compute()
        except Exception as error:
            if not (isinstance(error, SpecError) or hasattr(error, "__notes__")):
                error.add_note(f"raised by {node}")
            raise
        if not isinstance(distribution, Distribution):
            raise ModelError(
                f"{node} returned {type(distribution).__name__}; a random_variable must return a torch distribution"
            )
        return distribution

    def get_param(self, param: RVIdentifier) -> Tensor:
        """A param's tensor, initialised by its function when it is missing. Raises `ModelError` if that gives none."""
        if param not in self.params:
            self.params[param] = _first_value(param)
        return self.params[param]

    def replace(self, values: Mapping[RVIdentifier, Tensor]) -> Self:
        """A new world with some latents' values replaced, their children's distributions and parents recomputed.

        This world stays as it is. Raises `ModelError` for a variable that is observed or not instantiated.
        """
        world = self.copy()
        for node, value in values.items():
            if node in self.observations:
                raise ModelError(f"{node} is observed and cannot be replaced")
            if self._resolve(node) not in self._variables:
                raise ModelError(f"{node} is not instantiated in this world and cannot be replaced")
            world._variables[self._resolve(node)].value = value
        changed = {self._resolve(node) for node in values}
        for node in self._variables:
            if not changed.isdisjoint(world._variables[node].parents):
                world._rerun(node)
        return world

    def update_graph(self, node: RVIdentifier) -> Tensor:
        """The value of a node, instantiated if it is new; a call from another node's function becomes an edge."""
        variable = self._instantiated(node)
        if self._running:
            child, parents = next(reversed(self._running.items()))
            parents.add(node)
            variable.children.add(child)
        return variable.value

    def log_prob(self, nodes: Collection[RVIdentifier] | None = None) -> Tensor:
        """Sum of the log densities of some instantiated nodes (all of them by default), in order of instantiation."""
        chosen = self._variables.keys() if nodes is None else {self._resolve(node) for node in nodes}
        missing = [node for node in chosen if node not in self._variables]
        if missing:
            raise KeyError(f"{missing[0]} is not instantiated in this world; world.call(...) does that")
        terms = [variable.log_prob.sum() for node, variable in self._variables.items() if node in chosen]
        total = terms[0] if terms else torch.zeros(())
        for term in terms[1:]:
            total = total + term
        return total

    @property
    def latent_nodes(self) -> KeysView[RVIdentifier]:
        """The instantiated nodes that are not observed, in order of instantiation; compares like a set."""
        return dict.fromkeys(node for node in self._variables if node not in self.observations).keys()

    def copy(self) -> Self:
        """A world with the same values and graph that can be changed without changing this one; params are shared."""
        world = copy(self)
        world.observations = dict(self.observations)
        world._variables = {node: variable.copy() for node, variable in self._variables.items()}
        world._running = {}
        return world

    def __enter__(self) -> Self:
        _worlds.set((*_worlds.get(), self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _worlds.set(_worlds.get()[:-1])

    def __getitem__(self, node: RVIdentifier) -> Tensor:
        return self.get_variable(node).value

    def __iter__(self) -> Iterator[RVIdentifier]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    # A world is its own identity: comparing mappings of tensors would compare elementwise.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def _initial_value(self, node: RVIdentifier, distribution: Distribution) -> Tensor:
        """Where a latent's value comes from; subclasses may know better."""
        try:
            return self._initialize_fn(distribution)
        except NotImplementedError as error:
            raise ModelError(
                f"{node} cannot be drawn: its {type(distribution).__name__} has a density and no sample method; "
                "write one, observe the variable, or pass an initialize_fn that needs none"
            ) from error

    def _resolve(self, node: RVIdentifier) -> RVIdentifier:
        """The node under which a random variable's value is kept; subclasses may stand another in for it."""
        return node

    def _make_variable(self, node: RVIdentifier) -> Variable:
        distribution, parents = self._run(node)
        observed = node in self.observations
        value = self.observations[node] if observed else self._initial_value(node, distribution)
        return Variable(value, distribution, parents)

    def _improbable(self) -> list[RVIdentifier]:
        """The nodes whose log density is not finite."""
        return [node for node, variable in self._variables.items() if not variable.log_prob.sum().isfinite()]

    def _instantiated(self, node: RVIdentifier) -> Variable:
        if node not in self._variables:
            # Running the node instantiates its parents, so they come first in the order of the sum.
            self._variables[node] = self._make_variable(node)
        return self._variables[node]

    def _run(self, node: RVIdentifier) -> tuple[Distribution, set[RVIdentifier]]:
        """A node's distribution given the values in this world, and the nodes that it called."""
        if node in self._running:
            path = [*self._running]
            circle = " -> ".join(map(str, [*path[path.index(node) :], node]))
            raise ModelError(
                f"{node} depends on itself ({circle}); a model's variables must not form a cycle"
            )
        self._running[node] = set()
        try:
            distribution = self.get_distribution(node)
        except RecursionError as error:
            if len(self._running) > 1:
                raise
            raise ModelError(
                f"{node} reaches back through too many variables for Python's stack; if the chain has an end, list "
                "its earlier variables first among the queries"
            ) from error
        finally:
            parents = self._running.pop(node)
        return distribution, parents

    def _rerun(self, node: RVIdentifier) -> None:
        """Recompute a node's distribution and edges after a parent's value has changed; its value stays."""
        variable = self._variables[node]
        distribution, parents = self._run(node)
        for parent in variable.parents - parents:
            self._variables[parent].children.discard(node)
        self._variables[node] = Variable(variable.value, distribution, parents, variable.children)


def _first_value(param: RVIdentifier) -> Tensor:
    value = param.compute()
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ModelError(f"param {param} starts as {kind}; its function must return a floating-point tensor")
    # A tensor that is being trained elsewhere (an nn.Parameter) stays itself; any other is copied, so that two
    # params that start from one constant do not move together.
    return value if value.requires_grad and value.is_leaf else value.detach().clone().requires_grad_()
