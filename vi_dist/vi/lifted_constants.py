"""The data that a traced graph holds, as inputs: a program then does not depend on their values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

# Numbers in a constant that shares an input with others.
_SMALL = 4096

_aten = torch.ops.aten


def device_of(graph: GraphModule) -> torch.device:
    """Where a traced graph computes: on the device of its inputs, numbers that belong nowhere apart."""
    values = (node.meta.get("val") for node in graph.graph.nodes if node.op == "placeholder")
    return next((value.device for value in values if isinstance(value, Tensor)), torch.device("cpu"))


def lift_constants(graph: GraphModule) -> tuple[GraphModule, list[Tensor]]:
    """A copy of the graph with its constant tensors as further inputs, and those tensors.

    Small ones come as slices of one input for each dtype: a call pays for each input.
    """
    copied = torch.fx.Graph()
    mapped: dict[Node, Node] = {}
    nodes = list(graph.graph.nodes)
    for node in nodes:
        if node.op == "placeholder":
            mapped[node] = copied.placeholder(node.name)
    places, constants = _lifted(graph, copied)
    for node in nodes:
        if node.op == "get_attr":
            mapped[node] = places[str(node.target)]
        elif node.op == "output":
            copied.output(torch.fx.node.map_arg(node.args[0], mapped.__getitem__))
        elif node.op != "placeholder":
            mapped[node] = copied.node_copy(node, mapped.__getitem__)
    return GraphModule(torch.nn.Module(), copied), constants


def _lifted(graph: GraphModule, copied: torch.fx.Graph) -> tuple[dict[str, Node], list[Tensor]]:
    """Where the copied graph finds each constant, by name, and its further inputs."""
    device = device_of(graph)  # tracing leaves single numbers on the CPU, whatever the device
    found: dict[str, Tensor] = {
        str(node.target): getattr(graph, str(node.target)).to(device)
        for node in graph.graph.nodes
        if node.op == "get_attr"
    }
    small: dict[torch.dtype, list[str]] = {}
    places: dict[str, Node] = {}
    constants: list[Tensor] = []
    for name, tensor in found.items():
        if tensor.numel() <= _SMALL:
            small.setdefault(tensor.dtype, []).append(name)
        else:
            places[name] = copied.placeholder(f"constant_{len(constants)}")
            # One tensor's memory under two names, as of data and their transpose, is refused in a loop.
            constants.append(tensor.clone() if _shares(tensor, constants) else tensor)
    joined = [copied.placeholder(f"constants_{number}") for number in range(len(small))]
    for whole, names in zip(joined, small.values(), strict=True):
        start = 0
        for name in names:
            shape, end = list(found[name].shape), start + found[name].numel()
            part = copied.call_function(_aten.slice.Tensor, (whole, 0, start, end))
            places[name], start = copied.call_function(_aten.view.default, (part, shape)), end
        constants.append(torch.cat([found[name].reshape(-1) for name in names]))
    return places, constants


def _shares(tensor: Tensor, others: Sequence[Tensor]) -> bool:
    """Whether a tensor's memory is also one of the others'."""
    memory = tensor.untyped_storage().data_ptr()
    return any(other.untyped_storage().data_ptr() == memory for other in others)
