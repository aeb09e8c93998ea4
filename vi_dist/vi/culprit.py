"""Which variable of a model has no finite density or gradient at a point, in a sentence."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint, is_dependent

from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.limits import at_end, has_limit
from vi_dist.model.log_density import log_density
from vi_dist.model.support import base_of, constraints_of
from vi_dist.model.variable import Variable
from vi_dist.vi.density import Density, FlatWorld
from vi_dist.vi.layout import element_names


def culprit(density: Density, row: Tensor) -> str:
    """Which variable's density is not finite at a row, or has no finite gradient: element, value, and what to do."""
    with torch.enable_grad():
        leaf = row.clone().requires_grad_()
        try:
            world = world_at(density, leaf)
        except Exception as error:  # the user's own
            return f"the model raises {type(error).__name__} at every point looked at: {error}"
        nodes = [*density.model.observations, *(site.variable for site in density.layout.latents)]
        for node in nodes:
            if (reason := _bad_value(node, world.get_variable(node))) is not None:
                return f"{reason}{_where(density, world)}"
        for node in nodes:
            if (reason := _bad_slope(node, world.get_variable(node), leaf)) is not None:
                return f"{reason}{_where(density, world)}"
    return (
        "the log density or its gradient is not finite at any point looked at, though those of single variables are; "
        "numbers overflow: rescale the data"
    )


def _bad_value(node: RVIdentifier, variable: Variable) -> str | None:
    with torch.no_grad():
        each = log_density(base_of(variable.distribution), variable.value).detach()
        bad = ~each.isfinite()
        if not bool(bad.any()):
            return None
        limits = at_end(variable.distribution) & has_limit(variable.distribution, variable.value)
        if bool((bad & ~limits).any()):
            bad = bad & ~limits
    index = bad.nonzero()[0].tolist()
    number = float(each[tuple(index)])
    return f"{element(node, variable, index)} has log density {number:.6g} under its {_cure(variable, index)}"


def _bad_slope(node: RVIdentifier, variable: Variable, leaf: Tensor) -> str | None:
    total = variable.log_prob.sum()
    if not total.requires_grad:
        return None
    base = base_of(variable.distribution)
    held = [value for value in vars(base).values() if isinstance(value, Tensor) and value.requires_grad]
    found = torch.autograd.grad(total, [leaf, *held], retain_graph=True, allow_unused=True)
    if found[0] is None or bool(found[0].isfinite().all()):
        return None
    index = []
    for slope in found[1:]:
        if slope is not None and not bool(slope.isfinite().all()) and slope.shape == base.batch_shape:
            index = (~slope.isfinite()).nonzero()[0].tolist()
            break
    what = element(node, variable, index) if index or not base.batch_shape else str(node)
    if index:
        return f"the log density of {what} has no finite gradient under its {_cure(variable, index)}"
    return (
        f"the log density of {what} has no finite gradient, though it is finite: an expression that its "
        f"{kind_of(variable)} is computed from has no slope there, such as the square root of 0, or a branch of "
        "torch.where that is not taken; add a small number to its argument"
    )


def element(node: RVIdentifier, variable: Variable, index: list[int]) -> str:
    """An element with its value: ``y[7] = 1``."""
    value = variable.value.detach()
    if not index:
        return f"{node} = {_number(value)}"
    shape = torch.broadcast_shapes(
        value.shape, variable.distribution.batch_shape + variable.distribution.event_shape
    )
    return f"{node}[{','.join(map(str, index))}] = {_number(value.expand(shape)[tuple(index)])}"


def _cure(variable: Variable, index: list[int]) -> str:
    """The distribution with its parameters at an element, and what can be done about it."""
    base = base_of(variable.distribution)
    parameters = _parameters_at(base, index)
    kind = (
        f"{type(base).__name__}({', '.join(f'{name}={number:.6g}' for name, number in parameters.items())})"
    )
    for name, number in parameters.items():
        constraint = constraints_of(base)[name]
        allowed = is_dependent(constraint) or bool(constraint.check(torch.tensor(number)).all())
        if not math.isfinite(number) or not allowed:
            return (
                f"{kind}, whose {name} must be {range_in_words(constraint)} and finite: correct the data that it "
                "is computed from (the log of a zero, a division by zero), or the expression"
            )
    return (
        f"{kind}, where no guide has a slope to follow: correct or drop the value, or choose a distribution whose "
        "density is finite there"
    )


def _parameters_at(base: Distribution, index: list[int]) -> dict[str, float]:
    """The parameters of one element, by name; none where an element has more than a number of each."""
    found = {}
    for name in constraints_of(base):
        value = getattr(base, name, None)
        if isinstance(value, Tensor) and value.dim() <= min(len(index), len(base.batch_shape)):
            place = zip(index[len(index) - value.dim() :], value.shape, strict=True)
            found[name] = float(value.detach()[tuple(min(one, size - 1) for one, size in place)])
    return found


def _where(density: Density, world: FlatWorld) -> str:
    return f" (at {latents_at(density, world)})"


def latents_at(density: Density, world: FlatWorld) -> str:
    """The first latents' values, for a message."""
    parts = []
    for site in density.layout.latents[:3]:
        value = world[site.variable].detach().reshape(-1)
        parts.append(f"{element_names(site.name, tuple(site.shape))[0]} = {float(value[0]):.4g}")
    return ", ".join(parts)


def kind_of(variable: Variable) -> str:
    """The name of the distribution of a variable's elements."""
    return type(base_of(variable.distribution)).__name__


def range_in_words(constraint: Constraint) -> str:
    """A range in words: ``greater than 0``."""
    low, high = getattr(constraint, "lower_bound", None), getattr(constraint, "upper_bound", None)
    if low is not None and high is not None:
        return f"between {low:g} and {high:g}"
    if low is not None:
        return f"{'at least' if 'Eq' in type(constraint).__name__ else 'greater than'} {low:g}"
    return "a real number" if high is None else f"at most {high:g}"


def _number(value: Tensor) -> str:
    if value.numel() == 1:
        return f"{float(value):.6g}"
    return f"[{', '.join(f'{float(one):.6g}' for one in value.reshape(-1)[:6])}{', ...' if value.numel() > 6 else ''}]"


def at_index(index: list[int]) -> str:
    """Where an element is, for a message; nothing where there is only one."""
    return f" at index {index}" if index else ""


def world_at(density: Density, row: Tensor) -> FlatWorld:
    """The model at coordinates and params `(D,)`, its discrete latents at the first of their values."""
    summed_out = density.layout.summed_out
    discrete = (
        {} if summed_out is None else dict(zip(summed_out.nodes, summed_out.one_by_one[0], strict=True))
    )
    return density.run(row, discrete)
