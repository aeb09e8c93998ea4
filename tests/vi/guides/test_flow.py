from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from vi_dist.errors import ModelError
from vi_dist.vi.guides.family import Family
from vi_dist.vi.guides.flow import Flow
from vi_dist.vi.guides.full_rank import FullRank
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.noise import NoiseSite, NoiseSpace

F64 = torch.float64
FLOWS = ("realnvp", "maf", "nsf")
every = pytest.mark.parametrize("name", FLOWS)


def make(name: str, d: int, **arguments: int) -> Flow:
    made: Flow = GUIDES[name].make(NoiseSpace((NoiseSite("x", d),)), **{"hidden": 8, **arguments})
    return made


def bent(family: Flow, rows: int = 2, spread: float = 1.0) -> dict[str, Tensor]:
    """Guides far from Gaussian: all leaves of order one."""
    generator = torch.Generator().manual_seed(0)
    first = family.initial(torch.zeros(family.size, dtype=F64), scale=1.0)
    return {
        k: v + spread * torch.randn(rows, *v.shape, dtype=F64, generator=generator) for k, v in first.items()
    }


def normals(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(1))


@every
@pytest.mark.parametrize("d", [1, 2, 5])
def test_density_is_that_of_the_change_of_variables(name: str, d: int) -> None:
    """log q(z) = log N(e) - log |det dz/de|, found from z alone."""
    family = make(name, d)
    leaves, e = bent(family), normals(2, 4, d)
    log_q = family.log_prob(leaves, family.draw(leaves, e))
    for c in range(2):
        row = {k: v[c : c + 1] for k, v in leaves.items()}
        for s in range(4):
            jacobian = torch.func.jacrev(lambda x, row=row: family.draw(row, x[None, None])[0, 0])(e[c, s])
            base = torch.distributions.Normal(0.0, 1.0).log_prob(e[c, s]).sum()
            torch.testing.assert_close(log_q[c, s], base - torch.linalg.slogdet(jacobian)[1])


@every
@pytest.mark.parametrize("groups", [2, 5])
def test_density_of_own_draws_without_an_inverse(name: str, groups: int) -> None:
    """From the noise and a Jacobian, where that is cheaper, or by the inverse: the same."""
    family = make(name, 5, **({} if name == "realnvp" else {"groups": groups}))
    leaves, e = bent(family), normals(2, 4, 5)
    z = family.draw(leaves, e)
    found = family.density_of_draw(leaves, e, z)
    for one, other in zip(found, Family.density_of_draw(family, leaves, e, z), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@every
def test_it_starts_close_to_the_full_rank_gaussian(name: str) -> None:
    family = make(name, 4, hidden=32)
    affine = FullRank(family.space)
    loc = torch.tensor([1.0, -2.0, 0.0, 5.0], dtype=F64)
    leaves = {k: v[None] for k, v in family.initial(loc, scale=0.3).items()}
    e = normals(1, 200, 4)
    z = family.draw(leaves, e)
    torch.testing.assert_close(z, affine.draw(leaves, e), rtol=0, atol=0.15 * 0.3)
    torch.testing.assert_close(family.log_prob(leaves, z), affine.log_prob(leaves, z), rtol=0, atol=0.5)


def test_a_layer_of_two_groups_moves_the_second_by_the_first() -> None:
    """And one of as many groups as coordinates is autoregressive: a triangular Jacobian, full below the diagonal."""
    for groups, expected in ((2, [[0, 0], [1, 1]]), (4, None)):
        family = make("maf", 4, transforms=1, groups=groups)
        leaves = bent(family, rows=1)
        leaves["lower"] = torch.zeros_like(leaves["lower"])
        jacobian = torch.func.jacrev(lambda e, f=family, k=leaves: f.draw(k, e[None, None])[0, 0])(normals(4))
        if expected is None:
            below = torch.ones(4, 4).tril(-1)
        else:
            below = torch.zeros(4, 4)
            below[2:, :2] = 1
        assert torch.equal((jacobian != 0).double(), (below + torch.eye(4)).double())


def test_there_are_no_more_groups_than_coordinates() -> None:
    """More would stand for a Jacobian of nothing, as of a single coordinate's."""
    for name, d in (("maf", 1), ("nsf", 3)):
        family = make(name, d, groups=7)
        leaves, e = bent(family, rows=1, spread=0.5), normals(1, 2, d)
        log_q, slope = family.density_of_draw(leaves, e, family.draw(leaves, e))
        assert bool(log_q.isfinite().all()) and slope.shape == e.shape


def test_many_coordinates_have_at_most_sixteen_groups() -> None:
    family = make("maf", 40, transforms=1)
    leaves, e = bent(family, rows=1, spread=0.5), normals(1, 2, 40)
    z = family.draw(leaves, e)
    assert bool(family.log_prob(leaves, z).isfinite().all())


@every
def test_building_one_draws_nothing_from_torch(name: str) -> None:
    torch.manual_seed(5)
    make(name, 3)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


def test_without_zuko_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ModelError, match="pip install zuko"):
        make("maf", 2)


def test_a_flow_bends_where_a_gaussian_cannot(fit: Callable[..., Any], targets: SimpleNamespace) -> None:
    found = fit(targets.banana, "maf", steps=300, transforms=1, hidden=16)
    assert found.evaluation.elbo > -0.25
    assert found.evaluation.khat < 0.7
    assert fit(targets.banana, "full_rank", steps=300).evaluation.elbo < -0.5


@pytest.mark.parametrize("name", ["maf", "nsf"])
def test_flows_reach_a_correlated_gaussian(
    fit: Callable[..., Any], targets: SimpleNamespace, name: str
) -> None:
    found = fit(targets.correlated, name, steps=150, rate=0.1, transforms=1, hidden=4, samples=4)
    assert found.evaluation.elbo > -0.1
