"""What an experiment's `build` returns, and everything that can be wrong with it before any inference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from vi_dist.errors import ModelError
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.initialize import init_from_prior
from vi_dist.model.observed import check_observation, check_observed_keys
from vi_dist.model.prior_median import prior_median
from vi_dist.model.rv_dict import RVDict
from vi_dist.model.seeding import fixed_seed
from vi_dist.model.validation import unvalidated
from vi_dist.model.world import World


@dataclass(frozen=True, init=False)
class Model:
    """A model with its data: what to infer, what was seen, and which latents belong to rows of the data.

    Args:
        queries: random variables and functionals to report.
        observations: values of the observed random variables.
        local: latents whose leading dimension follows the rows (or groups) of the data.
    """

    queries: tuple[RVIdentifier, ...]
    observations: RVDict
    local: tuple[RVIdentifier, ...]

    def __init__(
        self, queries: Iterable[RVIdentifier], observations: RVDict, local: Iterable[RVIdentifier] = ()
    ) -> None:
        object.__setattr__(self, "queries", tuple(queries))
        object.__setattr__(self, "observations", dict(observations))
        object.__setattr__(self, "local", tuple(local))


def check_model(model: Model) -> World:
    """Run a model once at its prior medians and refuse what cannot be fitted.

    Returns the world of that run, whose `latent_nodes` are the model's latents. Raises `ModelError`, naming the
    variable, for: a query that is neither random variable nor functional, two variables of one name, an observation
    outside its distribution's support, of a wrong shape or not finite, and a `local` that is not a latent.
    """
    if not isinstance(model, Model):
        raise ModelError(
            f"build returned {type(model).__name__}; it must return Model(queries, observations)"
        )
    _check_keys(model)
    with unvalidated():
        world = _run(model)
        for node in model.observations:
            check_observation(world, node, partial(_run, model, drawn=True))
    _check_names((*model.queries, *world))
    for node in model.local:
        if node not in world.latent_nodes:
            raise ModelError(f"{node} is not a latent that the queries or observations reach", key="local")
    return world


def _run(model: Model, drawn: bool = False) -> World:
    """A world with every query and observation instantiated: at the prior medians, or at a draw from the prior."""
    world = World(model.observations, init_from_prior if drawn else prior_median)
    with fixed_seed():
        for node in (*model.queries, *model.observations):
            world.call(node)
    return world


def _check_keys(model: Model) -> None:
    if not model.queries:
        raise ModelError("there is nothing to infer; list at least one random variable", key="queries")
    for query in model.queries:
        if not (_is_random_variable(query) or _is_functional(query)):
            raise ModelError(
                f"{_describe(query)} is not a random variable or functional; decorate its function with "
                "@random_variable or @functional and list the result of calling it",
                key="queries",
            )
    check_observed_keys(model.observations)
    for query in model.queries:
        if query in model.observations:
            raise ModelError(
                f"{query} is observed, so it cannot be a query; drop one of the two", key="queries"
            )


def _check_names(nodes: Iterable[RVIdentifier]) -> None:
    """Names stand for variables in every file and table, so two variables must not share one."""
    by_name: dict[str, RVIdentifier] = {}
    for node in dict.fromkeys(nodes):
        if str(node) in by_name:
            raise ModelError(
                f"two variables are called {node}; rename one of the functions or give it an argument",
                key="queries",
            )
        by_name[str(node)] = node


def _is_random_variable(thing: object) -> bool:
    return isinstance(thing, RVIdentifier) and thing.is_random_variable


def _is_functional(thing: object) -> bool:
    return isinstance(thing, RVIdentifier) and thing.is_functional


def _describe(thing: object) -> str:
    if isinstance(thing, RVIdentifier):
        return f"param {thing}" if thing.is_param else str(thing)
    return f"the function {thing.__name__}" if callable(thing) and hasattr(thing, "__name__") else repr(thing)
