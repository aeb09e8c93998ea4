"""Small rewrites of traced graphs, so that they batch well and carry nothing that can be computed beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import softplus

_aten = torch.ops.aten


def _bernoulli_logits(
    logits: Tensor, target: Tensor, weight: Tensor | None = None, pos_weight: Tensor | None = None, reduction: int = 1
) -> Tensor:
    """Cross entropy in two kernels; the stock decomposition writes in place and copies when batched."""
    if weight is not None or pos_weight is not None or reduction != 0:
        return NotImplemented
    return softplus(logits, 1.0, 40.0) - logits * target


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    _aten.binary_cross_entropy_with_logits.default: _bernoulli_logits,
}


def trace(function: Callable[..., Any], *examples: Any) -> GraphModule:
    """`function` as a flat ATen graph, simplified; raises whatever tracing raises."""
    graph = make_fx(function, decomposition_table=DECOMPOSITIONS)(*examples)
    return simplify(graph)


def simplify(module: GraphModule) -> GraphModule:
    """Drop dead code, detaches and value checks; fold what depends on no input into constants."""
    _forget_detaches(module)
    _forget_checks(module)
    module.graph.eliminate_dead_code()
    if not any(_mutates(node) for node in module.graph.nodes):
        _fold_constants(module)
    module.graph.lint()
    module.recompile()
    return module


def _mutates(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return bool(schema is not None and schema.is_mutable)


def _forget_detaches(module: GraphModule) -> None:
    """Gradients are already part of the graph, which runs without autograd: a detach is the identity."""
    for node in list(module.graph.nodes):
        if node.target is _aten.detach.default:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)


def _forget_checks(module: GraphModule) -> None:
    """A failed Cholesky gives NaN for its own sample, instead of an exception for the whole pack."""
    for node in list(module.graph.nodes):
        if node.target is _aten._linalg_check_errors.default:
            module.graph.erase_node(node)


def _fold_constants(module: GraphModule) -> None:
    values: dict[Node, Any] = {}
    for node in list(module.graph.nodes):
        if node.op == "get_attr":
            values[node] = getattr(module, str(node.target))
        elif node.op == "call_function" and _is_pure(node) and all(n in values for n in node.all_input_nodes):
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
    for number, (node, value) in enumerate(values.items()):
        needed = any(user not in values for user in node.users)
        if node.op == "get_attr" or not needed or not isinstance(value, Tensor):
            continue
        name = f"_folded_{number}"
        module.register_buffer(name, value)
        with module.graph.inserting_before(node):
            replacement = module.graph.get_attr(name)
        node.replace_all_uses_with(replacement)
    module.graph.eliminate_dead_code()


def _is_pure(node: Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded not in node.target.tags
