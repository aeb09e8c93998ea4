from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.nn.functional import softplus

from vi_dist.vi import estimators
from vi_dist.vi.estimators import Estimator
from vi_dist.vi.guides.mixture import Mixture
from vi_dist.vi.noise import TRAINING, NoiseSite, NoiseSpace, NormalSource

F64 = torch.float64
SPACE = NoiseSpace((NoiseSite("x", 2),))


def apart(components: int) -> tuple[Mixture, dict[str, Tensor]]:
    """A mixture whose k-th component lies at 100 k."""
    family = Mixture(SPACE, components)
    loc = 100.0 * torch.arange(components, dtype=F64)[None, :, None].expand(1, -1, 2)
    return family, {"loc": loc, "raw_scale": torch.zeros(1, components, 2, dtype=F64)}


def normals(samples: int, seed: int = 0) -> Tensor:
    return torch.randn(1, samples, 3, dtype=F64, generator=torch.Generator().manual_seed(seed))


def counts(family: Mixture, leaves: dict[str, Tensor], noise: Tensor) -> list[int]:
    component = (family.draw(leaves, noise)[0, :, 0] / 100).round().to(torch.int64)
    return torch.bincount(component, minlength=family.components).tolist()


def test_density_is_the_mixture_s() -> None:
    family = Mixture(SPACE, 3)
    first = family.initial(torch.zeros(2, dtype=F64))
    leaves = {k: v[None] + torch.randn(1, *v.shape, dtype=F64) for k, v in first.items()}
    parts = Independent(Normal(leaves["loc"][0], softplus(leaves["raw_scale"][0])), 1)
    expected = MixtureSameFamily(Categorical(probs=torch.full((3,), 1 / 3, dtype=F64)), parts)
    z = torch.randn(1, 9, 2, dtype=F64)
    torch.testing.assert_close(family.log_prob(leaves, z)[0], expected.log_prob(z[0]))


def test_draws_take_every_component_equally_often() -> None:
    family, leaves = apart(4)
    samples = 40_000
    for number in counts(family, leaves, normals(samples)):
        assert abs(number / samples - 0.25) < 4.5 * (0.25 * 0.75 / samples) ** 0.5


@pytest.mark.parametrize(("components", "samples"), [(2, 8), (4, 8), (3, 3), (4, 1), (3, 8)])
def test_stratified_samples_cover_the_components(components: int, samples: int) -> None:
    """As evenly as whole numbers allow in every step, and exactly evenly in the long run; the rest is left alone."""
    family, leaves = apart(components)
    total = torch.zeros(components)
    steps = 600
    for step in range(steps):
        noise = normals(samples, seed=step)
        stratified = family.stratify(noise)
        assert torch.equal(stratified[..., :2], noise[..., :2])
        found = counts(family, leaves, stratified)
        assert max(found) - min(found) <= 1
        total += torch.tensor(found)
    spread = 4.5 * (steps * samples / components) ** 0.5
    assert bool(((total - steps * samples / components).abs() < spread).all())
    if samples % components == 0:
        assert len(set(total.tolist())) == 1


@pytest.mark.parametrize(
    ("estimator", "even"),
    [(estimators.reparam, True), (estimators.stl, True), (estimators.score, False), (estimators.dreg, False)],
)
def test_steps_are_stratified_where_a_mean_over_samples_allows_it(
    engine: Callable[..., Any],
    column: Callable[..., Any],
    targets: SimpleNamespace,
    estimator: Estimator,
    even: bool,
) -> None:
    columns = [column(0, estimator=estimator), column(1, estimator=estimators.score)]
    program = engine(targets.bimodal, "mixture", components=2).program(columns)
    steps = torch.arange(50)[:, None].expand(-1, 2)
    noise = program.noise(TRAINING, steps)
    assert noise.shape == (50, 2, 4, 2)
    chosen = (noise[:, 0, :, -1] > 0).sum(-1)  # of two components, the second
    assert bool((chosen == 2).all()) == even
    plain = NormalSource(program.space, [0, 1], F64)(TRAINING, steps, 4)
    assert torch.equal(noise[:, 1], plain[:, 1])
    assert torch.equal(noise[..., 0], plain[..., 0])


def test_components_start_apart_around_the_place_asked_for() -> None:
    family = Mixture(SPACE, 3)
    leaves = family.initial(torch.tensor([1.0, -2.0], dtype=F64), scale=0.4)
    torch.testing.assert_close(leaves["loc"].mean(0), torch.tensor([1.0, -2.0], dtype=F64))
    variance = leaves["loc"].var(0, correction=0) + softplus(leaves["raw_scale"]).square().mean(0)
    torch.testing.assert_close(variance, torch.full((2,), 0.16, dtype=F64))
    assert bool((leaves["loc"][0] != leaves["loc"][1]).all())


def test_two_modes_are_found_where_no_gaussian_can(fit: Callable[..., Any], targets: SimpleNamespace) -> None:
    """The best Gaussian pays log 2 for the mode that it leaves out, or more for the gap that it covers."""
    x = torch.linspace(-12, 12, 20_001, dtype=F64)
    log_joint = Normal(0.0, 4.0).log_prob(x) + Normal(x**2, 3.0).log_prob(torch.tensor(9.0))
    evidence = float(torch.trapezoid(log_joint.exp(), x).log())
    found = fit(targets.bimodal, "mixture", components=2)
    assert evidence - 0.05 < found.evaluation.elbo < evidence
    # Each component sits on the mean of its half.
    mean = float((x.abs() * (log_joint - evidence).exp()).sum() * (x[1] - x[0]))
    assert sorted(found.leaves["loc"].flatten().tolist()) == pytest.approx([-mean, mean], abs=0.1)
    assert fit(targets.bimodal, "full_rank").evaluation.elbo < evidence - 0.6


def test_full_rank_components_reach_a_correlated_gaussian(
    fit: Callable[..., Any], targets: SimpleNamespace
) -> None:
    assert fit(targets.correlated, "mixture", components=2, full_rank=True).evaluation.elbo > -0.02


def test_a_mixture_of_one_is_its_component(fit: Callable[..., Any], targets: SimpleNamespace) -> None:
    alone = fit(targets.correlated, "mean_field").evaluation
    assert fit(targets.correlated, "mixture", components=1).evaluation.elbo == pytest.approx(
        alone.elbo, abs=0.02
    )
