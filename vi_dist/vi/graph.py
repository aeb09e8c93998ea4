"""Small rewrites of traced graphs, so that they batch well and carry nothing that can be computed beforehand."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import softplus

_aten = torch.ops.aten


def _bernoulli_logits(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: int = 1,
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
    """Drop dead code and detaches, turn failures into NaN; compute constants beforehand and what is equal once."""
    _forget_detaches(module)
    _state_dtypes(module)
    _poison_failures(module)
    module.graph.eliminate_dead_code()
    if not any(_mutates(node) for node in module.graph.nodes):
        _fold_constants(module)
        _merge_constants(module)
        _merge_equal(module)
    turn_products(module)
    _pad_products(module)
    _spell_powers(module)
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


def _state_dtypes(module: GraphModule) -> None:
    """Say the type of what a graph makes of nothing, or of integers: left out, it is torch's default when it runs.

    A graph is traced where the default is the model's type, and runs where it is the process's.
    """
    for node in list(module.graph.nodes):
        value = node.meta.get("val")
        if not (isinstance(value, Tensor) and value.is_floating_point() and _is_pure(node)):
            continue
        inputs = [one.meta.get("val") for one in node.all_input_nodes]
        if any(isinstance(one, Tensor) and one.is_floating_point() for one in inputs):
            continue
        if not inputs and any(argument.name == "dtype" for argument in node.target._schema.arguments):
            if node.kwargs.get("dtype") is None:
                node.update_kwarg("dtype", value.dtype)
        elif torch.Tag.pointwise in node.target.tags and node.target.overloadpacket is not _aten.where:
            _cast_inputs(module, node, value.dtype)


def _cast_inputs(module: GraphModule, node: Node, dtype: torch.dtype) -> None:
    """Have an operation of integers compute in a floating-point type."""
    for one in node.all_input_nodes:
        if isinstance(one.meta.get("val"), Tensor):
            with module.graph.inserting_before(node):
                cast = module.graph.call_function(_aten._to_copy.default, (one,), {"dtype": dtype})
            cast.meta["val"] = one.meta["val"].to(dtype)
            node.replace_input_with(one, cast)


def _poison_failures(module: GraphModule) -> None:
    """A failed factorisation gives NaN for its own sample, instead of an exception for the whole pack.

    LAPACK leaves numbers that look like an answer, so dropping the check alone would go on with those.
    """
    order = {node: place for place, node in enumerate(module.graph.nodes)}
    for check in list(module.graph.nodes):
        if check.target is not _aten._linalg_check_errors.default:
            continue
        info = check.args[0]
        module.graph.erase_node(check)
        for result in [user for user in info.args[0].users if user is not info]:
            with module.graph.inserting_after(max(result, info, key=order.__getitem__)):
                poisoned = module.graph.call_function(nan_where_failed, (result, info))
            result.replace_all_uses_with(poisoned)
            poisoned.update_arg(0, result)


def nan_where_failed(result: Tensor, info: Tensor) -> Tensor:
    """What a LAPACK routine returned, NaN where its `info`, one for every matrix, is not 0."""
    if not result.is_floating_point():
        return result
    failed = (info != 0).reshape(*info.shape, *[1] * (result.dim() - info.dim()))
    return torch.where(failed, torch.nan, result)


def _fold_constants(module: GraphModule) -> None:
    values: dict[Node, Any] = {}
    for node in list(module.graph.nodes):
        if node.op == "get_attr":
            values[node] = getattr(module, str(node.target))
        elif node.op == "call_function" and _is_pure(node) and all(n in values for n in node.all_input_nodes):
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = node.target(*args, **kwargs)
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


def _merge_constants(module: GraphModule) -> None:
    """Constants of equal numbers become one, as of masks that a guide makes at each draw."""
    kept: dict[Any, list[tuple[Node, Tensor]]] = {}
    for node in [node for node in module.graph.nodes if node.op == "get_attr"]:
        value = getattr(module, str(node.target))
        alike = kept.setdefault((value.dtype, value.shape, value.stride(), value.device), [])
        found = next((first for first, other in alike if torch.equal(value, other)), None)
        if found is None:
            alike.append((node, value))
        else:
            node.replace_all_uses_with(found)
            module.graph.erase_node(node)


def _merge_equal(module: GraphModule) -> None:
    """What is computed twice from the same is computed once.

    torch's `fx_graph_cse` imports Inductor first, most of a second in every process; its `CSEPass` takes 1 for 1.0.
    """
    kept: dict[Any, Node] = {}
    for node in list(module.graph.nodes):
        if node.op == "call_function" and _is_pure(node):
            first = kept.setdefault((node.target, repr(node.args), repr(node.kwargs)), node)
            if first is not node:
                node.replace_all_uses_with(first)
                module.graph.erase_node(node)


def turn_products(module: GraphModule, columns: Collection[Node] = ()) -> None:
    """Data times a sample becomes the sample, a row, times data: batched, samples are the rows of one product.

    With `MKL_CBWR` set, MKL gives a row of a product the same bits wherever it stands, but in float64 not a column.
    Data are constants, inputs named in `columns`, and what is computed of these alone.
    """
    data_nodes = set(columns)
    for node in list(module.graph.nodes):
        computed = node.op == "call_function" and data_nodes.issuperset(node.all_input_nodes)
        if node.op == "get_attr" or computed:
            data_nodes.add(node)
        if node.target is _aten.mv.default and node.args[0] in data_nodes:
            data, sample = node.args
            with module.graph.inserting_before(node):
                row = module.graph.call_function(_aten.unsqueeze.default, (sample, 0))
                turned = module.graph.call_function(_aten.t.default, (data,))
                product = module.graph.call_function(_aten.mm.default, (row, turned))
                vector = module.graph.call_function(_aten.squeeze.dim, (product, 0))
            product.meta["val"], vector.meta = node.meta["val"][None], node.meta
            node.replace_all_uses_with(vector)
            module.graph.erase_node(node)


def _pad_products(module: GraphModule) -> None:
    """Rows times data of d columns, d not a multiple of 8: the data get columns of zeros, the product loses them.

    MKL takes up to a third longer for 25 columns than for 32.
    """
    for node in list(module.graph.nodes):
        if node.target is not _aten.mm.default or node.args[1].op != "get_attr":
            continue
        data = getattr(module, str(node.args[1].target))
        rows, columns = data.shape
        if columns % 8 == 0 or columns < 8 or rows < columns or not data.is_contiguous():
            continue
        name = f"{node.args[1].target}_padded"
        if not hasattr(module, name):
            module.register_buffer(name, torch.nn.functional.pad(data, (0, -columns % 8)))
        with module.graph.inserting_before(node):
            padded = module.graph.get_attr(name)
            product = module.graph.call_function(_aten.mm.default, (node.args[0], padded))
            kept = module.graph.call_function(_aten.slice.Tensor, (product, 1, 0, columns))
        if "val" in node.meta:
            kept.meta = node.meta
            product.meta["val"] = node.meta["val"].new_empty(
                node.meta["val"].shape[0], columns + -columns % 8
            )
        node.replace_all_uses_with(kept)
        module.graph.erase_node(node)


def _spell_powers(module: GraphModule) -> None:
    """x to the powers of data becomes e^(data log x): one logarithm for all of them, and no power in the derivative.

    Only where no power is a whole number, which has a value at x < 0 too.
    """
    for node in list(module.graph.nodes):
        if node.target is not _aten.pow.Tensor_Tensor or node.args[1].op != "get_attr":
            continue
        base, powers = node.args
        given = getattr(module, str(powers.target))
        if given.is_floating_point() and bool((given.isfinite() & (given != given.round())).all()):
            with module.graph.inserting_before(node):
                log = module.graph.call_function(_aten.log.default, (base,))
                product = module.graph.call_function(_aten.mul.Tensor, (powers, log))
                power = module.graph.call_function(_aten.exp.default, (product,))
            log.meta, product.meta, power.meta = base.meta, node.meta, node.meta
            node.replace_all_uses_with(power)
            module.graph.erase_node(node)


def finish_gathered(module: GraphModule) -> None:
    """Values are computed before they are gathered from, if there are fewer of them than places that want them.

    Inductor would compute them at each place anew, from several gathers.
    """
    sources: dict[Node, None] = {}
    for node in module.graph.nodes:
        value = node.meta.get("val")
        if node.target is _aten.index.Tensor and isinstance(value, Tensor):
            source = _seen_through_views(node.all_input_nodes[0])
            if _is_elementwise(source) and source.meta["val"].numel() < value.numel():
                sources[source] = None
    for source in sources:
        _finish(module, source)
    module.recompile()


def finish_words(module: GraphModule) -> None:
    """Words of a random number generator that several others are made of are computed once.

    Inductor would copy the expression into each use, and at every round of Threefry the copies double: programs would
    be no slower, but compiling them takes twice the time.
    """
    for node in list(module.graph.nodes):
        if _is_elementwise(node) and node.meta["val"].dtype == torch.int32 and len(node.users) > 1:
            _finish(module, node)
    module.recompile()


def spell_tanh(module: GraphModule) -> None:
    """tanh in operations that Inductor has fast kernels for; the one that it calls takes two to three times as long."""
    for node in list(module.graph.nodes):
        value = node.meta.get("val")
        if node.target is _aten.tanh.default and value.dtype in (torch.float32, torch.float64):
            with module.graph.inserting_before(node):
                spelled = _tanh(torch.fx.Proxy(node.args[0])).node
            spelled.meta = node.meta
            node.replace_all_uses_with(spelled)
            module.graph.erase_node(node)
    module.recompile()


def _tanh(x: Any) -> Any:
    """tanh within four units of the last place: by e^2x, and near 0, where that cancels, by its continued fraction.

    Lambert's: x / (1 + x² / (3 + x² / (5 + x² / (7 + x² / (9 + x² / (11 + x² / 13)))))), as a quotient of polynomials.
    """
    square = x * x
    above = 135135 + square * (17325 + square * (378 + square))
    below = 135135 + square * (62370 + square * (3150 + square * 28))
    return torch.where(torch.abs(x) < 0.5, x * above / below, 1 - 2 / (torch.exp(2 * x) + 1))


def is_view(node: Node) -> bool:
    """Whether a node only looks at memory that another one has."""
    return bool(getattr(node.target, "is_view", False))


def _seen_through_views(node: Node) -> Node:
    while is_view(node):
        node = node.all_input_nodes[0]
    return node


# Operations that may change nothing, which a compiler then leaves out; so it does with these by ones and zeros.
_MAY_VANISH = {_aten.clone, _aten.alias, _aten.pow, _aten.ceil, _aten.floor, _aten.round, _aten.trunc}
_MAY_VANISH |= {_aten.nan_to_num}
_ARITHMETIC = {_aten.add, _aten.sub, _aten.mul, _aten.div}
_UNIFORM = {
    _aten.zeros_like,
    _aten.ones_like,
    _aten.full_like,
    _aten.new_zeros,
    _aten.new_ones,
    _aten.new_full,
}


def _is_elementwise(node: Node) -> bool:
    """Whether a node computes a tensor number by number, and so in memory of its own."""
    if not isinstance(node.target, torch._ops.OpOverload) or torch.Tag.pointwise not in node.target.tags:
        return False
    packet = node.target.overloadpacket
    vanishes = packet in _ARITHMETIC and any(map(_is_uniform, node.all_input_nodes))
    return packet not in _MAY_VANISH and not vanishes and isinstance(node.meta.get("val"), Tensor)


def _is_uniform(node: Node) -> bool:
    """Whether a compiler knows the node's numbers from the graph alone."""
    if node.op != "call_function":
        return False
    return getattr(node.target, "overloadpacket", None) in _UNIFORM or all(
        map(_is_uniform, node.all_input_nodes)
    )


def _finish(module: GraphModule, node: Node) -> None:
    """The values of a node are computed there and then: Inductor does so with what is viewed by strides.

    Only where a node's memory is its own: strides count from where memory begins, not from where a view does.
    """
    value, users = node.meta["val"], list(node.users)
    with module.graph.inserting_after(node):
        view = (node, list(value.shape), list(value.stride()), 0)
        finished = module.graph.call_function(_aten.as_strided.default, view)
    finished.meta = node.meta
    for user in users:
        user.replace_input_with(node, finished)


def _is_pure(node: Node) -> bool:
    return (
        isinstance(node.target, torch._ops.OpOverload)
        and torch.Tag.nondeterministic_seeded not in node.target.tags
    )
