"""Rewrites of traced graphs keep what they compute."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule

from vi_dist.vi.graph import nan_where_failed, spell_tanh, trace
from vi_dist.vi.softplus_sums import group_softplus_sums, sum_softplus

F64 = torch.float64


def targets(graph: GraphModule) -> set[str]:
    return {str(node.target) for node in graph.graph.nodes if node.op == "call_function"}


def test_what_depends_on_no_input_is_computed_once() -> None:
    data = torch.randn(4, 3, dtype=F64)

    def function(x: Tensor) -> Tensor:
        return (data.exp() @ x).sum() + torch.arange(3.0, dtype=F64).sum()

    graph = trace(function, torch.zeros(3, dtype=F64))
    assert not {"aten.exp.default", "aten.arange.default"} & targets(graph)
    x = torch.randn(3, dtype=F64)
    torch.testing.assert_close(graph(x), function(x), rtol=1e-14, atol=0)


def test_what_is_equal_is_computed_once() -> None:
    def masked(x: Tensor) -> Tensor:
        return x.exp() * torch.ones(3, 3).tril(-1).sum(0)

    graph = trace(lambda x: masked(x) + masked(x).sin(), torch.zeros(3))
    assert [node.op for node in graph.graph.nodes].count("get_attr") == 1
    assert [str(node.target) for node in graph.graph.nodes].count("aten.exp.default") == 1
    x = torch.randn(3)
    assert torch.equal(graph(x), masked(x) + masked(x).sin())


def test_numbers_that_only_look_equal_are_kept_apart() -> None:
    """1 == 1.0 == True, and 0.0 == -0.0."""
    x = torch.arange(3)
    graph = trace(lambda x: (x + 1, x + 1.0, x * 0.0 + 1, 1 / (x * 0.0), 1 / (x * -0.0)), x)
    for ours, theirs in zip(
        graph(x), (x + 1, x + 1.0, x * 0.0 + 1, 1 / (x * 0.0), 1 / (x * -0.0)), strict=True
    ):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


def test_draws_are_not_merged() -> None:
    first, second = trace(lambda x: (x + torch.randn(2), x + torch.randn(2)), torch.zeros(2))(torch.zeros(2))
    assert not torch.equal(first, second)


def test_dead_code_goes() -> None:
    def function(x: Tensor) -> Tensor:
        x.exp()
        return x + 1

    assert targets(trace(function, torch.zeros(2))) == {"aten.add.Tensor"}


def test_draws_are_not_frozen() -> None:
    def function(x: Tensor) -> Tensor:
        return x + torch.randn(2)

    graph = trace(function, torch.zeros(2))
    assert not torch.equal(graph(torch.zeros(2)), graph(torch.zeros(2)))


def test_in_place_updates_stay_correct() -> None:
    def function(x: Tensor) -> Tensor:
        table = torch.zeros(3)
        table[0] = x[0]
        table += 1
        return table

    graph = trace(function, torch.zeros(2))
    for x in (torch.tensor([1.0, 2.0]), torch.tensor([5.0, 2.0])):
        assert torch.equal(graph(x), function(x))


def spoiled(x: Tensor) -> Tensor:
    """A matrix that is positive definite for |x| < 1 only."""
    one = torch.ones((), dtype=x.dtype)
    return torch.stack((torch.stack((one, x)), torch.stack((x, one))))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.linalg.cholesky(spoiled(x)).sum(),
        lambda x: torch.linalg.inv(spoiled(x)).sum(),
        lambda x: torch.linalg.solve(spoiled(x), torch.ones(2, dtype=F64)).sum(),
    ],
    ids=["cholesky", "inv", "solve"],
)
def test_a_failed_factorisation_is_nan_for_its_own_sample(function: object) -> None:
    assert callable(function)
    at = torch.tensor([0.3, 1.0, -0.2], dtype=F64)
    graph = trace(function, at[0])
    values = torch.vmap(graph)(at)
    assert values.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(values[[0, 2]], torch.stack([function(x) for x in at[[0, 2]]]))
    slopes = torch.func.vmap(torch.func.grad(graph))
    traced = trace(slopes, torch.zeros_like(at))  # as in a step, where the backward pass is part of the graph
    torch.testing.assert_close(traced(at)[[0, 2]], slopes(at[[0, 2]]))


def test_only_the_matrices_that_failed_are_nan() -> None:
    marked = nan_where_failed(torch.ones(2, 3, 3), torch.tensor([0, 2]))
    assert marked.isnan().reshape(2, -1).all(1).tolist() == [False, True]
    pivots = torch.ones(2, 3, dtype=torch.int32)
    assert nan_where_failed(pivots, torch.tensor([0, 2])) is pivots


@pytest.mark.parametrize("size", [0, 1, 7, 16, 99, 100, 101, 113, 211, 1000])
def test_grouped_softplus_sums_are_exact(size: int) -> None:
    """Value and slope, far into both tails, for sizes around a whole number of groups."""
    x = (torch.randn(size, dtype=F64) * 300).requires_grad_()
    made = sum_softplus(x)
    expected = torch.logaddexp(x, torch.zeros_like(x)).sum()
    torch.testing.assert_close(made, expected, rtol=1e-14, atol=1e-14)
    if size:
        (slope,) = torch.autograd.grad(made, x)
        torch.testing.assert_close(slope, torch.sigmoid(x.detach()), rtol=1e-14, atol=1e-300)


def test_a_logistic_likelihood_takes_the_grouped_sum() -> None:
    data, seen = torch.randn(50, 3, dtype=F64), (torch.rand(50) > 0.5).to(F64)

    def function(x: Tensor) -> Tensor:
        logits = data @ x
        cost = torch.nn.functional.binary_cross_entropy_with_logits(logits, seen, reduction="none")
        return -cost.sum() - 0.5 * (x * x).sum()

    graph = trace(function, torch.zeros(3, dtype=F64))
    group_softplus_sums(graph)
    assert "aten.softplus.default" not in targets(graph)
    x = torch.randn(6, 3, dtype=F64) * 20
    torch.testing.assert_close(
        torch.vmap(graph)(x), torch.stack([function(row) for row in x]), rtol=1e-13, atol=0
    )
    slopes = torch.func.vmap(torch.func.grad(graph))(x)
    expected = torch.func.vmap(torch.func.grad(function))(x)
    torch.testing.assert_close(slopes, expected, rtol=1e-11, atol=1e-12)


def test_samples_are_the_rows_of_a_product_with_data() -> None:
    data = torch.randn(40, 3, dtype=F64)
    graph = trace(
        torch.vmap(trace(lambda x: data @ x, torch.zeros(3, dtype=F64))), torch.zeros(8, 3, dtype=F64)
    )
    (product,) = (node for node in graph.graph.nodes if node.target is torch.ops.aten.mm.default)
    assert product.meta["val"].shape == (8, 40)
    x = torch.randn(8, 3, dtype=F64)
    torch.testing.assert_close(graph(x), x @ data.T, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_spelled_tanh_is_tanh(dtype: torch.dtype) -> None:
    graph = trace(lambda x: (x.tanh(), x.to(torch.bfloat16).tanh()), torch.zeros(3, dtype=dtype))
    spell_tanh(graph)
    assert [str(node.target) for node in graph.graph.nodes].count("aten.tanh.default") == 1
    near = [torch.linspace(-12, 12, 20001, dtype=dtype), torch.linspace(0.45, 0.65, 5001, dtype=dtype)]
    x = torch.cat([*near, torch.logspace(-30, 0, 5001, dtype=dtype)])
    expected = x.double().tanh()
    error = (graph(x)[0].double() - expected).abs() / expected.abs().clamp_min(1e-300)
    assert error.max() < 4 * torch.finfo(dtype).eps
    ends = torch.tensor([torch.inf, -torch.inf, torch.nan, 300.0, 0.0], dtype=dtype)
    torch.testing.assert_close(graph(ends)[0], ends.tanh(), equal_nan=True, rtol=0, atol=0)


def test_powers_of_data_share_a_logarithm() -> None:
    broken, whole = torch.tensor([0.3, -1.5, 2.5], dtype=F64), torch.tensor([0.3, 2.0], dtype=F64)

    def function(x: Tensor) -> Tensor:
        return (x**broken).sum() + (x**whole).sum() + x**0.5

    x = torch.tensor(1.7, dtype=F64, requires_grad=True)
    graph = trace(function, x.detach())
    assert [str(n.target) for n in graph.graph.nodes].count("aten.pow.Tensor_Tensor") == 1
    slopes = [torch.autograd.grad(f(x), x)[0] for f in (graph, function)]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-13, atol=0)
    for value in (0.0, 1e-30, 2.5, 1e30, -1.0):
        point = torch.tensor(value, dtype=F64)
        torch.testing.assert_close(graph(point), function(point), rtol=1e-12, atol=0, equal_nan=True)
