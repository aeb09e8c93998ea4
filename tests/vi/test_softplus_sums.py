from __future__ import annotations

import torch
from torch.distributions import Bernoulli, Normal

from vi_dist.vi.context import model_context
from vi_dist.vi.graph import trace
from vi_dist.vi.softplus_sums import group_softplus_sums, sum_softplus


def test_sum_and_slope_equal_the_plain_ones_at_every_scale_and_remainder() -> None:
    for size in (1, 7, 100, 113, 229):
        x = torch.linspace(-900, 900, size, dtype=torch.float64).requires_grad_()
        plain = torch.nn.functional.softplus(x, threshold=100).sum()
        grouped = sum_softplus(x)
        torch.testing.assert_close(grouped, plain, rtol=1e-13, atol=1e-13)
        slopes = torch.autograd.grad(grouped, x)[0]
        torch.testing.assert_close(slopes, torch.sigmoid(x.detach()), rtol=1e-13, atol=1e-300)


def test_batched_rows_equal_single_ones() -> None:
    rows = torch.randn(5, 19, dtype=torch.float64)
    batched = torch.func.vmap(torch.func.grad(sum_softplus))(rows)
    for row, slope in zip(rows, batched, strict=True):
        torch.testing.assert_close(slope, torch.sigmoid(row), rtol=1e-13, atol=0)


def test_a_logistic_likelihood_is_rewritten_and_keeps_its_value() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(37, 3, dtype=torch.float64, generator=generator)
    labels = (torch.rand(37, generator=generator) < 0.4).double()

    def log_joint(beta: torch.Tensor) -> torch.Tensor:
        prior = Normal(torch.zeros(3), torch.ones(3)).log_prob(beta).sum()
        return prior + Bernoulli(logits=features @ beta).log_prob(labels).sum()

    at = torch.randn(3, dtype=torch.float64, generator=generator)
    with model_context(torch.float64):
        graph = trace(log_joint, at)
        plain = log_joint(at)
    group_softplus_sums(graph)
    assert any(node.target is sum_softplus for node in graph.graph.nodes)
    torch.testing.assert_close(graph(at), plain, rtol=1e-13, atol=1e-12)


def test_a_broadcast_inside_the_sum_is_left_as_one_term() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return (torch.nn.functional.softplus(x, 1.0, 40.0) - x.sum()).sum()

    at = torch.randn(9, dtype=torch.float64)
    graph = trace(function, at)
    group_softplus_sums(graph)
    torch.testing.assert_close(graph(at), function(at), rtol=1e-13, atol=1e-12)


def test_the_slope_has_the_slope_that_curvature_at_a_mode_needs() -> None:
    x = torch.linspace(-900, 900, 37, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(sum_softplus(x), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x)
    logistic = torch.sigmoid(x.detach())
    torch.testing.assert_close(second, logistic * torch.sigmoid(-x.detach()), rtol=1e-12, atol=1e-300)
