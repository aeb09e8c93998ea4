"""From a model's density of one sample to a program over a whole batch of samples, traced where that is possible."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.fx import GraphModule

from vi_dist.errors import ModelError
from vi_dist.vi.batch_density import BatchDensity
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density
from vi_dist.vi.graph import trace, turn_products
from vi_dist.vi.layout import Layout
from vi_dist.vi.log_joint import curvature
from vi_dist.vi.noise import SAMPLING, NormalSource
from vi_dist.vi.softplus_sums import group_softplus_sums

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JointProgram:
    """Part A of the step: log joint of every row of a batch, and its gradient.

    Attributes:
        mode: `flat` (the model's Python was traced away) or `loop` (it runs once per row).
        reason: why it is a loop; empty when flat.
        nodes: number of operations of one sample's graph, 0 for a loop.
        one: the log joint of one flat vector `(D,)`, of a minibatched model at a batch's columns.
        widest: numbers in the largest intermediate of one sample's graph.
    """

    mode: str
    reason: str
    nodes: int
    one: Callable[..., Tensor]
    widest: int = 1

    def value(self, rows: Tensor, *columns: Tensor) -> Tensor:
        """Log joint `(B,)` of flat vectors `(B, D)`, all of them at the same columns of data if there are any."""
        if self.mode == "flat":
            return torch.vmap(self.one, (0, *[None] * len(columns)))(rows, *columns)
        return torch.stack([_guarded(self.one, row, *columns) for row in rows])

    def curvature(self, loc: Tensor, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `LogJoint.curvature`."""
        return curvature(self, loc, params)

    def value_and_gradient(self, rows: Tensor, *columns: Tensor) -> tuple[Tensor, Tensor]:
        """Log joint `(B,)` and its gradient `(B, D)`, one backward pass; both detached."""
        with torch.enable_grad():
            leaf = rows.detach().requires_grad_()
            own = self.value(leaf, *columns)
            (gradient,) = torch.autograd.grad(own.sum(), leaf)
        return own.detach(), gradient


def _guarded(one: Callable[..., Tensor], row: Tensor, *columns: Tensor) -> Tensor:
    """One row of a loop; a numerical failure is NaN for this row alone."""
    try:
        return one(row, *columns)
    except (ArithmeticError, ValueError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        log.debug("the model raised on one sample: %s", error)
        return row.sum() * torch.nan


def trace_joint(density: Density, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> JointProgram:
    """Trace one unbatched sample and check it against the plain World; a loop where either fails.

    Raises `ModelError` if the plain World itself fails at the starting point.
    """
    flat = density.layout.start.to(device, dtype)

    def one(row: Tensor) -> Tensor:
        with model_context(dtype, device):
            return density(row)

    try:
        one(flat)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"the model fails at its prior median: {type(error).__name__}: {error}", key="model"
        ) from error
    graph, reason = _traced(density, flat, dtype, (), ())
    if reason or graph is None:
        log.warning("the model cannot be batched and runs as a loop over samples (%s)", reason)
        return JointProgram("loop", reason, 0, one)
    return JointProgram("flat", "", len(graph.graph.nodes), graph, _widest(graph))


def trace_batches(
    density: BatchDensity,
    columns: Sequence[Tensor],
    others: Sequence[Tensor],
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> JointProgram:
    """Trace one sample at one batch's columns and check it at another's.

    Raises `ModelError` with the reason where that is not possible: run as Python, a model is its rows' once and for
    all.
    """
    flat = density.layout.start.to(device, dtype)
    graph, reason = _traced(density, flat, dtype, columns, others)
    if reason or graph is None:
        raise ModelError(
            f"batches of rows need a build that can be traced with any rows, and this one cannot: {reason}; leave "
            "batch_size out",
            key="batch_size",
        )
    return JointProgram("flat", "", len(graph.graph.nodes), graph, _widest(graph))


def _traced(
    density: Density | BatchDensity,
    flat: Tensor,
    dtype: torch.dtype,
    columns: Sequence[Tensor],
    others: Sequence[Tensor],
) -> tuple[GraphModule | None, str]:
    """One sample's graph, and why it cannot be used, if it cannot; checked with data that it was not traced with."""

    def one(row: Tensor) -> Tensor:
        with model_context(dtype, flat.device):
            return density(row, *others)

    try:
        with model_context(dtype, flat.device):
            graph = trace(density, flat, *columns)
            turn_products(graph, dict.fromkeys(list(graph.graph.nodes)[1 : 1 + len(columns)]))
            group_softplus_sums(graph)
            torch.vmap(graph, (0, *[None] * len(columns)))(flat.expand(2, -1), *columns)
        return graph, _disagreement(lambda row: graph(row, *others), one, density.layout, flat)
    except Exception as error:  # tracing can fail in as many ways as there are models
        return None, f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"


def _widest(graph: GraphModule) -> int:
    values = (node.meta.get("val") for node in graph.graph.nodes if node.op == "call_function")
    return max((value.numel() for value in values if isinstance(value, Tensor)), default=1)


def _disagreement(
    graph: Callable[[Tensor], Tensor], one: Callable[[Tensor], Tensor], layout: Layout, flat: Tensor
) -> str:
    """Compare graph and World on fresh draws: what tracing bakes in or leaves out, it does so silently.

    A value read in Python (`.tolist()`) shows in the density; a stopped gradient (`.detach()`) in its slope alone.
    """
    source = NormalSource(layout.noise, [0], flat.dtype, flat.device)
    draws = source(SAMPLING, torch.zeros(1, 1, device=flat.device), 2)[0, 0]
    tolerance = 1e-3 if flat.dtype == torch.float32 else 1e-8
    for draw in draws:
        # Params and local latents stay at their start: what a model reads in Python it reads from any of them.
        row = flat + torch.nn.functional.pad(0.5 * draw, (0, flat.shape[0] - draw.shape[0]))
        plain, slope = _value_and_slope(partial(_guarded, one), row)
        traced, traced_slope = _value_and_slope(graph, row)
        if not plain.isfinite():
            continue
        if not torch.allclose(plain, traced, rtol=tolerance, atol=tolerance):
            return (
                f"on a fresh draw the traced graph gives {traced.item():.6g} and the model {plain.item():.6g}: "
                "the model reads a value in Python, for example by .tolist() or .numpy()"
            )
        largest = float(slope.abs().max())
        if slope.isfinite().all() and not torch.allclose(
            slope, traced_slope, rtol=0, atol=tolerance * (1 + largest)
        ):
            return "the traced graph has another gradient: the model stops one, for example by .detach() or no_grad()"
    return ""


def _value_and_slope(density: Callable[[Tensor], Tensor], row: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = row.detach().requires_grad_()
        value = density(leaf)
        (slope,) = torch.autograd.grad(value, leaf)
    return value.detach(), slope
