"""Whether a density may sum its discrete latents out as it does: found by trying, before anything is fitted."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from vi_dist.errors import ModelError
from vi_dist.vi.density import Density
from vi_dist.vi.enumeration import each_value
from vi_dist.vi.summed_out import CURE, SummedOut

# Points at which sums are compared, and random mixed values at each, beside those that tell any two elements apart.
_POINTS, _MIXED = 2, 3
# In float64: of one element, and of all together.
_CLOSE, _ALL_CLOSE = 1e-9, 1e-7


def check_summed_out(density: Density) -> None:
    """Refuse discrete latents whose values change with others', or of which elements do not act one by one.

    For a density in float64. Raises `ModelError`.
    """
    summed_out = density.layout.summed_out
    if summed_out is None:
        return
    _check_listed(density, summed_out)
    _check_slope(density, summed_out)
    if summed_out.shape:
        _check_elements(density, summed_out)


def _check_listed(density: Density, summed_out: SummedOut) -> None:
    """The values were listed where the others are at their medians."""
    for values in summed_out.one_by_one:
        world = density.run(density.layout.start, dict(zip(summed_out.nodes, values, strict=True)))
        for node, listed in zip(summed_out.nodes, summed_out.elements, strict=True):
            each, _ = each_value(node, world.get_variable(node).distribution, CURE)
            if each.shape != listed.shape or not torch.equal(each, listed):
                raise ModelError(
                    f"{node} takes other values ({len(each)} and not {len(listed)}) where other discrete latents do: "
                    "values that are summed over must not depend on values; give it all of them, with probability 0 "
                    f"where it does not take them, or {CURE}",
                    key="queries",
                )


def _check_slope(density: Density, summed_out: SummedOut) -> None:
    """A value without probability has log density -inf, whose slope is often no number, and then that of the sum."""
    with torch.enable_grad():
        flat = density.layout.start.clone().requires_grad_()
        value = density(flat)
        (slope,) = torch.autograd.grad(value, flat)
    if bool(value.isfinite()) and bool(slope.isnan().any()):
        raise ModelError(
            f"the density has no slope where guides start, because some value of {summed_out.names} makes the "
            "observations impossible; keep it possible, for example with rate() * on() + 1e-6 for rate() * on()",
            key="queries",
        )


def _check_elements(density: Density, summed_out: SummedOut) -> None:
    """The sum over elements is that of the model itself at mixed values."""
    generator = torch.Generator(device="cpu").manual_seed(0)
    compared = 0
    for _ in range(_POINTS):
        # Every coordinate its own: at a median the components of a mixture are all alike.
        away = torch.randn(density.layout.start.shape, generator=generator, dtype=torch.float64, device="cpu")
        flat = density.layout.start + away.to(density.layout.start)
        each, rest = density.of_each_value(flat, summed_out)
        possible = rest[rest.isfinite()]
        same = torch.allclose(possible, possible[:1].expand_as(possible), rtol=_CLOSE, atol=_CLOSE)
        for chosen in _mixed(each, generator):
            terms = density.log_probs(density.run(flat, summed_out.take(chosen)))
            plain = torch.stack([term.sum() for term in terms]).sum()
            summed = torch.gather(each, 0, chosen[None]).sum() + rest[0]
            compared += bool(plain.isfinite() and summed.isfinite())
            same = same and torch.allclose(summed, plain, rtol=_CLOSE, atol=_ALL_CLOSE, equal_nan=True)
        if not same:
            raise ModelError(
                f"the elements of {summed_out.names} have too many combinations of values to sum over all, and do not "
                "act one by one: the density must be a sum over the elements, in their order along the first axes, of "
                f"what each alone says; {CURE}",
                key="queries",
            )
    if not compared:
        raise ModelError(
            f"whether the elements of {summed_out.names} act one by one cannot be seen: the density is not finite at "
            f"any of the values that were tried; {CURE}",
            key="queries",
        )


def _mixed(each: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Values `(*shape)` of all elements by number, of log densities `(K, *shape)`; none that is impossible.

    The digits of the elements' numbers to the base K tell any two elements apart in one of these at least.
    """
    shape = each.shape[1:]
    flat = each.reshape(len(each), -1)
    k, n = flat.shape
    finite = flat.isfinite()
    # Possible values first, and how many there are.
    order = finite.to(torch.int8).sort(dim=0, descending=True, stable=True).indices
    counts = finite.sum(0).clamp_min(1)
    numbers = torch.arange(n, device="cpu")
    digits = [(numbers // k**place) % k for place in range(max(1, math.ceil(math.log(max(n, 2), max(k, 2)))))]
    random = [torch.randint(k, (n,), generator=generator, device="cpu") for _ in range(_MIXED)]
    for base in (*digits, *random):
        yield order.gather(0, (base.to(counts.device) % counts)[None])[0].reshape(shape)
