"""A rewrite for Bernoulli likelihoods: the sum of softplus over data, with one logarithm for a hundred data.

sum_i softplus(x_i) = sum_i max(x_i, 0) + sum_i log(1 + e_i), e_i = exp(-|x_i|) <= 1, and the logs of a hundred numbers
between 1 and 2 are the log of their product, at most 2^100, which float32 still holds. Logarithms are what a compiled
logistic regression spends most of its time on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

_aten = torch.ops.aten
# Factors of one product: at most so many, so that it stays below float32's largest number, 2^128.
_MOST, _USUAL, _LANES = 120, 100, 8


def _group_size(n: int) -> int:
    """Factors per product: a large divisor of n that leaves whole vectors of products, else with a remainder."""
    sizes = [size for size in range(_MOST, 15, -1) if n % size == 0]
    return next((size for size in sizes if n // size % _LANES == 0), sizes[0] if sizes else _USUAL)


class _Logistic(torch.autograd.Function):
    """The logistic function of x, given e^-|x|; its own slope in x is there for curvatures."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, e: Tensor) -> Tensor:
        inverse = 1 / (1 + e)
        return torch.where(x >= 0, inverse, e * inverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (e,) = ctx.saved_tensors
        return slopes[0] * e / (1 + e) ** 2, None


class _SumSoftplus(torch.autograd.Function):
    """Sum over all elements of softplus(x), and e^-|x| for the backward pass; the slope is the logistic function."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        size = _group_size(x.shape[0])
        whole = x.shape[0] - x.shape[0] % size
        e = torch.exp(-x.abs())
        head, factors = x[:whole].reshape(size, -1), 1 + e[:whole].reshape(size, -1)
        total = (head.clamp_min(0).sum(0) + factors.prod(0).log()).sum()
        if whole < x.shape[0]:
            total = total + x[whole:].clamp_min(0).sum() + (1 + e[whole:]).prod(0).log()
        return total, e

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], output[1])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return slopes[0] * _Logistic.apply(*ctx.saved_tensors)  # type: ignore[no-untyped-call]


def sum_softplus(x: Tensor) -> Tensor:
    """Sum of log(1 + e^x) over all elements, a scalar."""
    total: Tensor = _SumSoftplus.apply(x.reshape(-1))[0]  # type: ignore[no-untyped-call]
    return total


def group_softplus_sums(module: GraphModule) -> None:
    """Replace sums of (terms linear in) softplus nodes of one sample's graph, in place."""
    for node in list(module.graph.nodes):
        if node.target is not _aten.sum.default or node.kwargs:
            continue
        terms = list(_linear_terms(node.args[0], 1, _shape(node.args[0])))
        if not any(_is_softplus(term) for _, term in terms):
            continue
        with module.graph.inserting_before(node):
            total = None
            for sign, term in terms:
                part = (
                    module.graph.call_function(sum_softplus, (term.args[0],))
                    if _is_softplus(term)
                    else module.graph.call_function(_aten.sum.default, (term,))
                )
                if sign < 0:
                    part = module.graph.call_function(_aten.neg.default, (part,))
                total = part if total is None else module.graph.call_function(_aten.add.Tensor, (total, part))
        node.replace_all_uses_with(total)
    module.graph.eliminate_dead_code()
    module.recompile()


def _is_softplus(node: Node) -> bool:
    """Our own decomposition's softplus: slope 1, cut off at 40."""
    return node.target is _aten.softplus.default and tuple(node.args[1:]) == (1.0, 40.0) and not node.kwargs


def _shape(node: Any) -> Any:
    value = node.meta.get("val") if isinstance(node, Node) else None
    return None if value is None else value.shape


def _linear_terms(node: Any, sign: int, shape: Any) -> Any:
    """The terms of a sum or difference of tensors of one shape, with signs; a broadcast stays one term."""
    if len(node.users) == 1 and shape is not None and not node.kwargs:
        if node.target is _aten.neg.default:
            yield from _linear_terms(node.args[0], -sign, shape)
            return
        if node.target in (_aten.add.Tensor, _aten.sub.Tensor) and all(
            _shape(arg) == shape for arg in node.args
        ):
            yield from _linear_terms(node.args[0], sign, shape)
            yield from _linear_terms(node.args[1], sign if node.target is _aten.add.Tensor else -sign, shape)
            return
    yield sign, node
