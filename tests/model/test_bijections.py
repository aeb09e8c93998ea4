"""Bijections onto matrices and mixtures' supports: there and back, and their Jacobians against autograd's."""

from __future__ import annotations

import pytest
import torch
import torch.distributions as td
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.distributions import biject_to, constraints

from vi_dist.model.bijections import CholeskyVectorTransform, PositiveDefiniteVectorTransform

TRANSFORMS = [CholeskyVectorTransform(), PositiveDefiniteVectorTransform()]


def _coordinates(size: int, *batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(size)
    return torch.randn(*batch, size * (size + 1) // 2, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_matrices_have_as_many_coordinates_as_free_elements(
    transform: CholeskyVectorTransform, size: int
) -> None:
    x = _coordinates(size, 4)
    y = transform(x)
    assert transform.codomain.check(y).all()
    assert y.shape == transform.forward_shape(x.shape) and x.shape == transform.inverse_shape(y.shape)
    torch.testing.assert_close(transform.inv(y.clone()), x)
    row, column = torch.tril_indices(size, size)
    free = jacobian(lambda one: transform(one)[row, column], x[0])
    expected = torch.linalg.slogdet(free).logabsdet
    torch.testing.assert_close(transform.log_abs_det_jacobian(x, y)[0], expected)


def test_torch_finds_them() -> None:
    assert isinstance(biject_to(constraints.lower_cholesky), CholeskyVectorTransform)
    assert isinstance(biject_to(td.Wishart(4.0, torch.eye(2)).support), PositiveDefiniteVectorTransform)


@pytest.mark.parametrize(
    ("components", "low", "high"),
    [
        (td.Normal(torch.zeros(3, 2), 1.0), -torch.inf, torch.inf),
        (td.Gamma(torch.ones(3, 2), 1.0), 0.0, torch.inf),
        (td.Pareto(torch.tensor([2.0, 1.0]).expand(3, 2), 1.0), 1.0, torch.inf),
        (td.Uniform(torch.tensor([0.0, -1.0]).expand(3, 2), torch.tensor([1.0, 4.0])), -1.0, 4.0),
        (td.Independent(td.Uniform(torch.zeros(3, 2, 4), 2.0), 1), 0.0, 2.0),
        (td.Independent(td.Beta(torch.ones(3, 2, 4), 2.0), 1), 0.0, 1.0),
    ],
)
def test_a_mixture_lives_where_one_of_its_components_does(
    components: td.Distribution, low: float, high: float
) -> None:
    mixture = td.MixtureSameFamily(td.Categorical(torch.ones(2)), components)
    transform = biject_to(mixture.support)
    shape = mixture.batch_shape + mixture.event_shape
    assert transform.inverse_shape(shape) == shape
    ends = [float(transform(torch.full(shape, far))[0].min()) for far in (-1e3, 1e3)]
    assert ends[0] == pytest.approx(low if low > -torch.inf else -1e3)
    assert ends[1] == pytest.approx(high) if high < torch.inf else ends[1] >= 1e3
