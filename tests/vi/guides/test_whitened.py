"""Guides in whitened coordinates, and the search for the mode that they live at."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Gamma, HalfCauchy, MultivariateNormal, Normal

from vi_dist.evaluation.evaluate import Evaluator
from vi_dist.model.decorators import random_variable
from vi_dist.model.model import Model
from vi_dist.vi.estimators import stl
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.laplace_scale import Mode
from vi_dist.vi.mode import find_mode
from vi_dist.vi.noise import TRAINING, NoiseSite, NoiseSpace, NormalSource
from vi_dist.vi.pack import PackProgram

F64 = torch.float64
SPACE = NoiseSpace((NoiseSite("a", 1), NoiseSite("b", 2)))
ROOT = torch.tensor([[0.5, 0.0, 0.0], [30.0, 4.0, 0.0], [-2.0, 1.0, 0.01]], dtype=F64)
MODE = Mode(torch.tensor([1.0, -300.0, 0.02], dtype=F64), ROOT)
DENSE = [
    ("mean_field", {}),
    ("full_rank", {}),
    ("low_rank", {"rank": 1}),
    ("student_t", {}),
    ("mixture", {"components": 3, "full_rank": True}),
    ("nsf", {"hidden": 4, "transforms": 1}),
]


def placed(name: str, arguments: dict[str, Any], dtype: torch.dtype = F64) -> Any:
    family = GUIDES[name].make(SPACE, whiten=True, **arguments)
    return family.placed(lambda: MODE, torch.empty(0, dtype=dtype))


def spread(family: Any) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    first = family.initial(torch.zeros(3, dtype=F64))
    return {k: v + 0.3 * torch.randn(2, *v.shape, generator=generator, dtype=F64) for k, v in first.items()}


@pytest.mark.parametrize(("name", "arguments"), DENSE)
def test_it_is_the_inner_family_moved_and_stretched(name: str, arguments: dict[str, Any]) -> None:
    family, inner = placed(name, arguments), GUIDES[name].make(SPACE, **arguments)
    leaves = spread(family)
    noise = NormalSource(family.noise, [0, 1], F64)(TRAINING, torch.zeros(1, 2), 6)[0]
    u, z = inner.draw(leaves, noise), family.draw(leaves, noise)
    torch.testing.assert_close(z, MODE.loc + u @ ROOT.T)
    expected = inner.log_prob(leaves, u) - ROOT.diagonal().log().sum()
    torch.testing.assert_close(family.log_prob(leaves, z), expected, rtol=1e-9, atol=1e-7)
    log_q, slope = family.density_of_draw(leaves, noise, z)
    live = z.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(family.log_prob(leaves, live).sum(), live)
    torch.testing.assert_close(log_q, expected.detach(), rtol=1e-9, atol=1e-7)
    torch.testing.assert_close(slope, gradient, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "arguments"), DENSE)
def test_a_settled_guide_needs_nothing_but_its_leaves(name: str, arguments: dict[str, Any]) -> None:
    family = placed(name, arguments, torch.float32)
    leaves = spread(family)
    settled, remarks = family.settle(leaves, torch.zeros(2, 0, dtype=F64), None)
    noise = NormalSource(family.noise, [0, 1], F64)(TRAINING, torch.zeros(1, 2), 6)[0]
    elsewhere = GUIDES[name].make(SPACE, whiten=True, **arguments).settled
    torch.testing.assert_close(elsewhere.draw(settled, noise), family.draw(leaves, noise))
    assert remarks == ["", ""]


def test_without_a_mode_it_is_trained_in_plain_coordinates_and_says_so() -> None:
    family = GUIDES["mean_field"].make(SPACE, whiten=True).placed(lambda: None, torch.empty(0))
    loc = torch.tensor([1.0, 2.0, 3.0])
    leaves = {k: v[None] for k, v in family.initial(loc).items()}
    assert torch.equal(family.draw(leaves, torch.zeros(1, 1, 3))[0, 0], loc)
    _, (remark,) = family.settle(leaves, torch.zeros(1, 0), None)
    assert "No mode was found" in remark


def mode_of(engine: Callable[..., Any], build: Callable[[], Model]) -> tuple[Any, Mode | None]:
    made = engine(build)
    start = torch.cat((made.layout.loc, made.layout.eta))
    return made, find_mode(made.joint, start, made.layout.size)


def test_the_mode_of_a_gaussian_is_its_mean_and_the_root_its_covariance_s(
    engine: Callable[..., Any], targets: SimpleNamespace
) -> None:
    factor = torch.tensor([[100.0, 0.0], [0.9, 0.001]], dtype=F64)
    _, found = mode_of(
        engine,
        lambda: targets.known(MultivariateNormal(torch.tensor([5e3, -7.0], dtype=F64), scale_tril=factor)),
    )
    assert found is not None
    torch.testing.assert_close(found.loc, torch.tensor([5e3, -7.0], dtype=F64), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.root, factor, rtol=1e-6, atol=1e-9)


def test_the_mode_of_the_larger_mass_is_taken(engine: Callable[..., Any]) -> None:
    """Of a density whose starting point, the prior's median, leads to the lesser of two modes."""

    @random_variable
    def x() -> Distribution:
        return Normal(torch.zeros((), dtype=F64), 3.0)

    class Seen(Normal):
        def log_prob(self, value: Tensor) -> Tensor:
            near = Normal(self.loc, 0.3).log_prob(torch.tensor(-0.5, dtype=F64))
            return torch.logaddexp(near, Normal(self.loc, 0.3).log_prob(value) + 5.0)

    @random_variable
    def seen() -> Distribution:
        return Seen(x(), 1.0)

    _, found = mode_of(engine, lambda: Model([x()], {seen(): torch.tensor(2.0, dtype=F64)}))
    assert found is not None
    assert float(found.loc) == pytest.approx(2.0, abs=0.05)


def funnel() -> Model:
    """The centred eight schools in small: its density rises without end as tau falls."""

    @random_variable
    def tau() -> Distribution:
        return HalfCauchy(torch.tensor(5.0, dtype=F64))

    @random_variable
    def theta() -> Distribution:
        return Normal(torch.zeros(8, dtype=F64), tau())

    return Model([tau(), theta()], {})


def test_a_density_without_a_mode_has_none(engine: Callable[..., Any]) -> None:
    assert mode_of(engine, funnel)[1] is None


def test_one_learning_rate_suits_all_units(engine: Callable[..., Any], column: Callable[..., Any]) -> None:
    """Two correlated coordinates in units a million apart, far from where guides start: exact after 200 steps."""
    factor = torch.tensor([[1000.0, 0.0], [0.0009, 0.0005]], dtype=F64)
    truth = MultivariateNormal(torch.tensor([2e4, 0.3], dtype=F64), scale_tril=factor)

    @random_variable
    def x() -> Distribution:
        return truth

    made = engine(lambda: Model([x()], {}))
    found = find_mode(made.joint, made.layout.loc, 2)
    family = GUIDES["mean_field"].make(made.layout.noise, whiten=True)
    family = family.placed(lambda: found, torch.empty(0, dtype=F64))
    columns = [column(steps=200, learning_rate=0.03, estimator=stl)]
    program = PackProgram(made.joint, made.layout, family, made.program(columns).optimizer, 4, columns)
    state, _ = program.advance(program.start(), 200)
    leaves, _ = family.settle(program.leaves(state.params), torch.zeros(1, 0, dtype=F64), made.joint)
    (evaluation,) = Evaluator(made.joint.value, family.settled, 256)(leaves, torch.zeros(1, 0, dtype=F64))
    assert evaluation.elbo == pytest.approx(0.0, abs=1e-3)


def test_a_skewed_density_is_whitened_at_its_mode(
    engine: Callable[..., Any], targets: SimpleNamespace
) -> None:
    """Gamma(a, b): the density of log x has its mode at log(a / b) and the curvature -a there."""
    _, found = mode_of(engine, lambda: targets.known(Gamma(torch.tensor(7.0, dtype=F64), 2.0)))
    assert found is not None
    assert float(found.loc) == pytest.approx(math.log(3.5), abs=1e-6)
    assert float(found.root) == pytest.approx(7**-0.5, rel=1e-5)
