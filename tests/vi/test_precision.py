"""Models that close over tensors of another floating-point type than their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import LKJCholesky, LowRankMultivariateNormal, MultivariateNormal, Normal, Wishart

from vi_dist import Model, random_variable
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.prepared import PreparedModel
from vi_dist.cluster.setup import Setup
from vi_dist.vi.context import model_context
from vi_dist.vi.graph import trace

X = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)
LAYER = nn.Linear(3, 4).requires_grad_(False)


MEANS: dict[str, Callable[[Tensor], Tensor]] = {
    "float32 data": lambda w: X.float() @ w,
    "float64 data": lambda w: X @ w,
    "float64 data, elementwise": lambda w: (X * w).sum(-1),
    "a module": lambda w: LAYER(w),
    "a sum of products": lambda w: torch.einsum("ij,j->i", X.float(), w),
    "a solution": lambda w: torch.linalg.solve(X.T.float() @ X.float(), w) @ X.T.float(),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MEANS)
def test_constants_of_any_precision_are_cast_to_the_models(name: str, dtype: torch.dtype) -> None:
    def build() -> Model:
        @random_variable
        def w() -> Normal:
            return Normal(torch.zeros(3), 1.0)

        @random_variable
        def y() -> Normal:
            return Normal(MEANS[name](w()), 1.0)

        return Model([w()], {y(): torch.ones(4, dtype=torch.float64)})

    prepared = PreparedModel(Setup(BuildSource(function=build)), dtype)
    joint = prepared.joint()
    assert joint.mode == "flat", joint.reason
    rows = torch.linspace(-1, 1, 6, dtype=dtype).reshape(2, 3)
    value, gradient = joint.value_and_gradient(rows)
    assert value.dtype == gradient.dtype == dtype
    with model_context(dtype):
        exact = LAYER.double() if name == "a module" else None
    w = rows.double()
    mean = torch.stack([exact(one) if exact else MEANS[name](one).double() for one in w]) if exact else None
    if mean is None:
        with model_context(torch.float64):
            mean = torch.stack([MEANS[name](one) for one in w])
    expected = Normal(0.0, 1.0).log_prob(w).sum(-1) + Normal(mean, 1.0).log_prob(torch.ones(4)).sum(-1)
    LAYER.float()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)


FACTORIES: dict[str, Callable[[Tensor], Any]] = {
    "LKJCholesky": lambda r: LKJCholesky(3, r * torch.ones(2)).log_prob(torch.eye(3)),
    "LowRank": lambda r: LowRankMultivariateNormal(
        torch.zeros(3), r * torch.ones(3, 1), torch.ones(3)
    ).log_prob(torch.full((3,), 0.1)),
    "MultivariateNormal": lambda r: MultivariateNormal(r * torch.ones(2), 0.3 * torch.eye(2)).log_prob(
        torch.full((2,), 0.1)
    ),
    "Wishart": lambda r: Wishart(torch.tensor([3.0, 4.0]), r * torch.eye(2)).log_prob(0.3 * torch.eye(2)),
    "counts": lambda r: ((r > 0).sum() + 2).log() * r + torch.where(r > 0, 0.1, 0.2),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_a_graph_computes_in_the_type_that_it_was_traced_in(name: str) -> None:
    """It runs where torch's default is another: what it makes of nothing, or of integers, is of that type."""

    def one(r: Tensor) -> Tensor:
        with model_context(torch.float64):
            return torch.as_tensor(FACTORIES[name](r)).sum()

    start, other = torch.tensor([1.3, 0.7], dtype=torch.float64)
    with model_context(torch.float64):
        graph = trace(one, start)
    assert torch.get_default_dtype() == torch.float32
    torch.testing.assert_close(graph(other), one(other), rtol=1e-14, atol=1e-14)


def test_what_is_written_to_stays_itself() -> None:
    written = torch.zeros(3, dtype=torch.float32)
    with model_context(torch.float64):
        written[torch.tensor([0, 2])] = torch.ones(2)
        written.index_add_(0, torch.tensor([1]), torch.full((1,), 2.0))
    assert written.dtype == torch.float32 and written.tolist() == [1.0, 2.0, 1.0]


def test_an_error_that_is_of_something_else_stays() -> None:
    with model_context(torch.float64), pytest.raises(RuntimeError, match="size mismatch"):
        torch.ones(2, 3) @ torch.ones(2, dtype=torch.float32)
