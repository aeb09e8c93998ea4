from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.distributions import Distribution, Normal

from vi_dist.model.decorators import param, random_variable
from vi_dist.model.delta import Delta
from vi_dist.model.model import Model
from vi_dist.vi.guides.laplace import Laplace
from vi_dist.vi.log_joint import curvature
from vi_dist.vi.noise import NoiseSite, NoiseSpace

F64 = torch.float64


def test_a_gaussian_posterior_is_exact(fit: Callable[..., Any], targets: SimpleNamespace) -> None:
    model, mean, sd, evidence = targets.normal_normal()
    found = fit(lambda: model, "laplace", steps=50)
    assert found.remarks == [""]
    torch.testing.assert_close(found.distribution.mean[0], mean)
    torch.testing.assert_close(found.distribution.stddev[0], sd)
    assert found.evaluation.elbo == pytest.approx(evidence, abs=1e-9)
    assert found.evaluation.khat == -math.inf


def test_correlations_too(fit: Callable[..., Any], targets: SimpleNamespace) -> None:
    found = fit(targets.correlated, "laplace", steps=100)
    assert found.evaluation.elbo == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("shape", "rate"), [(3.0, 2.0), (0.4, 5.0)])
def test_gamma_in_closed_form(
    fit: Callable[..., Any], targets: SimpleNamespace, shape: float, rate: float
) -> None:
    """The density of log x is shape * z - rate * e^z: mode log(shape / rate), curvature -shape."""
    found = fit(lambda: targets.gamma(shape, rate), "laplace", steps=100).distribution
    assert float(found.mean) == pytest.approx(math.log(shape / rate), abs=1e-7)
    assert float(found.variance) == pytest.approx(1 / shape, rel=1e-7)


def test_the_leaves_alone_say_which_phase_it_is() -> None:
    """Guides read back from a file are settled; in training they are points, without a density."""
    family = Laplace(NoiseSpace((NoiseSite("x", 2),)))
    loc = torch.tensor([[1.0, 2.0]], dtype=F64)
    noise = torch.ones(1, 3, 2, dtype=F64)
    assert not family.has_density
    assert family.settled.has_density
    assert torch.equal(family.draw({"loc": loc}, noise), loc[:, None].expand(1, 3, 2))
    assert isinstance(family.distribution({"loc": loc[0]}), Delta)
    settled = {"loc": loc, "scale_tril": torch.tensor([[[2.0, 0.0], [1.0, 0.5]]], dtype=F64)}
    z = family.draw(settled, noise)
    assert torch.equal(z[0, 0], torch.tensor([3.0, 3.5], dtype=F64))
    expected = family.distribution({k: v[0] for k, v in settled.items()}).log_prob(z[0])
    torch.testing.assert_close(family.log_prob(settled, z)[0], expected)


def saddle() -> Model:
    """Two wells in y, so that training that starts between them ends on a ridge; x is plain."""

    @random_variable
    def x() -> Distribution:
        return Normal(torch.zeros((), dtype=F64), 1.0)

    @random_variable
    def y() -> Distribution:
        return Normal(torch.zeros((), dtype=F64), 10.0)

    @random_variable
    def seen() -> Distribution:
        return Normal(y() ** 2, 1.0)

    return Model([x(), y()], {seen(): torch.tensor(4.0, dtype=F64)})


def test_a_saddle_is_said_in_words_and_gives_a_guide_all_the_same(fit: Callable[..., Any]) -> None:
    found = fit(saddle, "laplace", steps=20)
    assert "1 of 2 directions" in found.remarks[0]
    assert "no mode" in found.remarks[0]
    assert math.isfinite(found.evaluation.elbo)


def test_other_columns_do_not_suffer_from_one_that_failed(
    engine: Callable[..., Any], targets: SimpleNamespace
) -> None:
    made = engine(targets.correlated, "laplace")
    loc = torch.tensor([[0.4, -1.1, 0.3], [torch.nan, 0.0, 0.0], [1e200, 0.0, 0.0]], dtype=F64)
    params = torch.zeros(3, 0, dtype=F64)
    leaves, remarks = made.family.settle({"loc": loc}, params, made.joint)
    alone, _ = made.family.settle({"loc": loc[:1]}, params[:1], made.joint)
    assert remarks[0] == ""
    assert "not finite" in remarks[1]
    for name, leaf in alone.items():
        torch.testing.assert_close(leaves[name][:1], leaf)


def test_curvature_is_the_hessian_also_of_loops(engine: Callable[..., Any]) -> None:
    """A model that cannot be traced runs once per row; the Hessian is that of torch.func on the graph."""
    made = engine(saddle, "laplace")
    loc = torch.tensor([[0.3, 1.5], [-1.0, 0.2]], dtype=F64)
    value, gradient, hessian = curvature(made.joint, loc, torch.zeros(2, 0, dtype=F64))
    for row in range(2):
        torch.testing.assert_close(value[row], made.joint.one(loc[row]))
        torch.testing.assert_close(gradient[row], torch.func.jacrev(made.joint.one)(loc[row]))
        torch.testing.assert_close(
            hessian[row], torch.func.jacrev(torch.func.jacrev(made.joint.one))(loc[row])
        )
    loop = type(made.joint)("loop", "for the test", 0, made.joint.one)
    for one, other in zip(
        curvature(loop, loc, torch.zeros(2, 0, dtype=F64)), (value, gradient, hessian), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_model_params_stay_where_they_are(engine: Callable[..., Any]) -> None:
    def build() -> Model:
        @param
        def centre() -> torch.Tensor:
            return torch.tensor(0.0, dtype=F64)

        @random_variable
        def x() -> Distribution:
            return Normal(centre(), 2.0)

        return Model([x()], {})

    made = engine(build, "laplace")
    params = torch.tensor([[0.5], [-3.0]], dtype=F64)
    leaves, remarks = made.family.settle({"loc": torch.zeros(2, 1, dtype=F64)}, params, made.joint)
    torch.testing.assert_close(leaves["loc"], params)
    torch.testing.assert_close(leaves["scale_tril"], torch.full((2, 1, 1), 2.0, dtype=F64))
    assert remarks == ["", ""]
