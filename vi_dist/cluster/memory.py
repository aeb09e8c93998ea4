"""How much memory a step takes, from its graph, before it takes it."""

from __future__ import annotations

from torch import Tensor
from torch.fx import GraphModule, Node


def peak_bytes(graph: GraphModule) -> int:
    """Most bytes that live at once while a traced graph runs eagerly: inputs, constants, and every value until its
    last use. A view lives with the value that it looks at."""
    nodes = list(graph.graph.nodes)
    owner: dict[Node, Node] = {}
    for node in nodes:
        inputs = node.all_input_nodes
        is_view = node.op == "call_function" and bool(getattr(node.target, "is_view", False)) and inputs
        owner[node] = owner[inputs[0]] if is_view else node
    last: dict[Node, int] = {}
    for place, node in enumerate(nodes):
        for used in node.all_input_nodes:
            last[owner[used]] = place
    alive = most = 0
    ending: dict[int, list[Node]] = {}
    for node, place in last.items():
        ending.setdefault(place, []).append(node)
    for place, node in enumerate(nodes):
        if owner[node] is node:
            alive += _bytes(graph, node)
        most = max(most, alive)
        # Inputs and constants stay: their caller holds them.
        alive -= sum(_bytes(graph, gone) for gone in ending.get(place, []) if gone.op == "call_function")
    return most


def _bytes(graph: GraphModule, node: Node) -> int:
    value = getattr(graph, str(node.target)) if node.op == "get_attr" else node.meta.get("val")
    values = value if isinstance(value, tuple | list) else [value]
    return sum(one.numel() * one.element_size() for one in values if isinstance(one, Tensor))
