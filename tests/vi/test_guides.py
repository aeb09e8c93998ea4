"""The contract of a guide family, for every entry of the table."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from vi_dist.model.delta import Delta
from vi_dist.vi.guides.family import INITIAL_SCALE, Family
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.noise import TRAINING, NoiseSite, NoiseSpace, NormalSource
from vi_dist.vi.table import REQUIRED

F64 = torch.float64
SPACE = NoiseSpace((NoiseSite("a", 1), NoiseSite("b", 2)))
LINE = NoiseSpace((NoiseSite("a", 1),))
LOC = torch.tensor([1.5, -2.0, 0.3], dtype=F64)
# An average this many standard errors off fails; the seeds are fixed.
SIGMAS = 4.5
# Further arguments to try, beside the defaults.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "mean_field": [{"whiten": True}],
    "student_t": [{"full_rank": True}],
    "mixture": [{"full_rank": True, "components": 3}, {"whiten": True}],
    "structured": [{"blocks": "a + b"}],
}


def families() -> list[Any]:
    """Every entry with its arguments at their defaults (the least where there is none), and some variants."""
    found = []
    for name, entry in GUIDES.items():
        least = {k: (a.low or 1) if a.default is REQUIRED else a.default for k, a in entry.arguments.items()}
        for changes in ({}, *VARIANTS.get(name, [])):
            arguments = {
                k: a.kind(v)
                for (k, v), a in zip({**least, **changes}.items(), entry.arguments.values(), strict=True)
            }
            found.append(pytest.param(name, arguments, id="-".join([name, *map(str, changes.values())])))
    return found


every = pytest.mark.parametrize(("name", "arguments"), families())


def make(name: str, arguments: dict[str, Any], space: NoiseSpace = SPACE) -> Family:
    made: Family = GUIDES[name].make(space, **arguments)
    return made


def leaves_of(family: Family, rows: int = 3, spread: float = 0.4) -> dict[str, Tensor]:
    """Guides that differ in every leaf, `(C, *shape)`."""
    generator = torch.Generator().manual_seed(3)
    first = family.initial(LOC[: family.size])
    return {
        name: leaf + spread * torch.randn(rows, *leaf.shape, generator=generator, dtype=F64)
        for name, leaf in first.items()
    }


def noise_of(family: Family, rows: int, samples: int) -> Tensor:
    source = NormalSource(family.noise, list(range(rows)), F64)
    return source(TRAINING, torch.zeros(1, rows), samples)[0]


def row(leaves: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    return {name: leaf[number] for name, leaf in leaves.items()}


@every
def test_shapes(name: str, arguments: dict[str, Any]) -> None:
    family = make(name, arguments)
    leaves, noise = leaves_of(family), noise_of(family, 3, 5)
    assert noise.shape == (3, 5, family.noise.size)
    z = family.draw(leaves, noise)
    assert z.shape == (3, 5, 3)
    assert family.log_prob(leaves, z).shape == (3, 5)
    log_q, slope = family.density_of_draw(leaves, noise, z)
    assert log_q.shape == (3, 5)
    assert slope.shape == (3, 5, 3)
    assert not log_q.requires_grad
    assert not slope.requires_grad
    distribution = family.distribution(row(leaves, 0))
    assert distribution.event_shape == (3,)
    assert distribution.batch_shape == ()
    assert distribution.sample((4, 2)).shape == (4, 2, 3)


@pytest.mark.parametrize(
    ("name", "arguments"), [p for p in families() if p.values[0] in ("mean_field", "full_rank", "structured")]
)
def test_the_density_of_draws_as_a_function_of_leaves_alone(name: str, arguments: dict[str, Any]) -> None:
    family = make(name, arguments)
    noise = noise_of(family, 3, 5)
    found = []
    for density in (family.log_q_of_draw, lambda live, e: family.log_prob(live, family.draw(live, e))):
        live = {leaf: value.requires_grad_() for leaf, value in leaves_of(family).items()}
        log_q = density(live, noise)
        assert log_q is not None
        slopes = torch.autograd.grad(
            log_q.sin().sum(), list(live.values()), allow_unused=True, materialize_grads=True
        )
        found.append((log_q, *slopes))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


@every
def test_noise_contains_the_coordinates_under_their_own_names(name: str, arguments: dict[str, Any]) -> None:
    family = make(name, arguments)
    assert family.noise.sites[: len(SPACE.sites)] == SPACE.sites
    assert len({site.name for site in family.noise.sites}) == len(family.noise.sites)


@every
def test_the_start_is_deterministic_and_where_it_was_asked_for(name: str, arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    family = make(name, arguments)
    first = family.initial(LOC)
    torch.manual_seed(1)
    second = make(name, arguments).initial(LOC)
    assert list(first) == list(second)
    assert all(torch.equal(first[leaf], second[leaf]) for leaf in first)
    assert all(bool(leaf.isfinite().all()) and leaf.dtype == F64 for leaf in first.values())
    samples = 20_000
    z = family.draw({k: v[None] for k, v in first.items()}, noise_of(family, 1, samples))[0]
    if not family.has_density:
        assert torch.equal(z, LOC.expand(samples, -1))
        return
    assert bool(((z.mean(0) - LOC).abs() < 0.5 * INITIAL_SCALE).all())
    assert bool((z.std(0) / INITIAL_SCALE - 1).abs().max() < 0.35), z.std(0)


@every
def test_single_precision_stays_single_and_agrees(name: str, arguments: dict[str, Any]) -> None:
    family = make(name, arguments)
    leaves, noise = leaves_of(family), noise_of(family, 3, 5)
    small = {k: v.float() for k, v in leaves.items()}
    z = family.draw(small, noise.float())
    assert z.dtype == torch.float32
    assert family.log_prob(small, z).dtype == torch.float32
    assert family.initial(LOC.float())[next(iter(leaves))].dtype == torch.float32
    torch.testing.assert_close(z.double(), family.draw(leaves, noise), rtol=1e-3, atol=1e-4)
    log_q = family.log_prob(leaves, z.double())
    torch.testing.assert_close(family.log_prob(small, z).double(), log_q, rtol=1e-3, atol=1e-2)


@every
def test_density_of_draw_is_that_of_log_prob(name: str, arguments: dict[str, Any]) -> None:
    family = make(name, arguments)
    leaves, noise = leaves_of(family), noise_of(family, 3, 5)
    z = family.draw(leaves, noise).requires_grad_()
    log_q, slope = family.density_of_draw(leaves, noise, z.detach())
    expected = family.log_prob(leaves, z)
    torch.testing.assert_close(log_q, expected.detach(), rtol=1e-9, atol=1e-9)
    if family.has_density:
        (gradient,) = torch.autograd.grad(expected.sum(), z)
        torch.testing.assert_close(slope, gradient, rtol=1e-7, atol=1e-7)
    else:
        assert torch.equal(slope, torch.zeros_like(slope))


@every
def test_log_q_for_evaluation_is_that_of_log_prob(name: str, arguments: dict[str, Any]) -> None:
    family = make(name, arguments)
    leaves, noise = leaves_of(family), noise_of(family, 3, 5)
    z = family.draw(leaves, noise)
    found = family.checked_log_q(leaves, noise, z)
    assert found.shape == (3, 5)
    torch.testing.assert_close(found, family.log_prob(leaves, z), rtol=1e-9, atol=1e-9)


@every
def test_log_prob_is_the_distribution_s(name: str, arguments: dict[str, Any]) -> None:
    family = make(name, arguments)
    leaves = leaves_of(family)
    z = LOC + torch.randn(3, 6, 3, dtype=F64)
    for number in range(3):
        distribution = family.distribution(row(leaves, number))
        if family.has_density:
            expected = distribution.log_prob(z[number])
            torch.testing.assert_close(family.log_prob(leaves, z)[number], expected, rtol=1e-9, atol=1e-9)
        else:
            assert isinstance(distribution, Delta)
            assert torch.equal(distribution.v, leaves["loc"][number])


@every
def test_draws_follow_the_density(name: str, arguments: dict[str, Any]) -> None:
    """For the bounded test function r/q, r a normal inside q: its mean under q is 1. And so is the distribution's."""
    family = make(name, arguments)
    if not family.has_density:
        return
    samples = 20_000
    leaves = leaves_of(
        family, rows=1, spread=0.15
    )  # components that overlap, or no normal would lie inside q
    draws = family.draw(leaves, noise_of(family, 1, samples))[0]
    centre, spread = draws.median(0).values, draws.std(0).clamp(max=2.0)
    inside = torch.distributions.Normal(centre, 0.5 * spread)
    torch.manual_seed(0)
    for z in (draws, family.distribution(row(leaves, 0)).sample((samples,))):
        ratio = torch.exp(inside.log_prob(z).sum(-1) - family.log_prob(leaves, z[None])[0])
        error = float(ratio.std()) / math.sqrt(samples)
        assert abs(float(ratio.mean()) - 1) < SIGMAS * error
        assert error < 0.15


@every
def test_density_integrates_to_one_on_a_line(name: str, arguments: dict[str, Any]) -> None:
    """And its distribution function at the draws is uniform (Kolmogorov and Smirnov)."""
    family = make(name, {k: v for k, v in arguments.items() if k != "blocks"}, LINE)
    if not family.has_density:
        return
    leaves = leaves_of(family, rows=1)
    samples = 4_000
    draws = family.draw(leaves, noise_of(family, 1, samples))[0, :, 0]
    centre, spread = draws.median(), draws.std().clamp(max=3.0)
    # A grid that is fine in the middle and reaches far into heavy tails.
    t = torch.linspace(-9.0, 9.0, 40_001, dtype=F64)
    grid, weight = centre + spread * torch.sinh(t), spread * torch.cosh(t) * (t[1] - t[0])
    mass = torch.exp(family.log_prob(leaves, grid[None, :, None])[0]) * weight
    assert float(mass.sum()) == pytest.approx(1.0, abs=2e-4)
    cumulative = torch.cumsum(mass, 0)[torch.searchsorted(grid, draws.sort().values).clamp(max=len(grid) - 1)]
    uniform = (torch.arange(samples, dtype=F64) + 0.5) / samples
    assert float((cumulative - uniform).abs().max()) < 1.95 / math.sqrt(samples)  # p = 0.001


@every
def test_every_leaf_gets_a_gradient(name: str, arguments: dict[str, Any]) -> None:
    """From a correlated, skewed target, at the start and elsewhere, through draw and through log_prob."""
    family = make(name, arguments)
    mix = torch.tensor([[1.0, 0.5, -0.3], [0.0, 1.0, 0.8], [0.0, 0.0, 1.0]], dtype=F64)
    start = {k: v.expand(2, *v.shape).clone() for k, v in family.initial(LOC).items()}
    for leaves in (start, leaves_of(family, rows=2)):
        live = {k: v.clone().requires_grad_() for k, v in leaves.items()}
        z = family.draw(live, noise_of(family, 2, 16))
        y = (z - 1.0) @ mix
        target = -(0.5 * y.square() + 0.2 * torch.exp(-y)).sum(-1)
        loss = (family.log_prob(live, z) - target).mean(-1).sum()
        for leaf, gradient in zip(live, torch.autograd.grad(loss, list(live.values())), strict=True):
            assert bool(gradient.isfinite().all()), leaf
            assert gradient.numel() == 0 or bool((gradient != 0).reshape(2, -1).any(1).all()), leaf
        if family.has_density:
            score = family.log_prob(live, z.detach())[:, 0].sum()
            for leaf, gradient in zip(live, torch.autograd.grad(score, list(live.values())), strict=True):
                assert gradient.numel() == 0 or bool((gradient != 0).any()), leaf


@every
@pytest.mark.parametrize("bad", [torch.nan, 1e200])
def test_neighbours_do_not_matter(name: str, arguments: dict[str, Any], bad: float) -> None:
    family = make(name, arguments)
    leaves, noise = leaves_of(family), noise_of(family, 3, 4)

    def everything(given: dict[str, Tensor]) -> tuple[Tensor, ...]:
        z = family.draw(given, noise)
        densities = family.log_prob(given, z), family.checked_log_q(given, noise, z)
        return z, *densities, *family.density_of_draw(given, noise, z)

    clean = everything(leaves)
    assert all(bool(part.isfinite().all()) for part in clean)
    spoiled = {k: v.clone() for k, v in leaves.items()}
    for leaf in spoiled.values():
        leaf[1] = bad
    for before, after in zip(clean, everything(spoiled), strict=True):
        assert torch.equal(before[[0, 2]], after[[0, 2]])


@every
def test_a_sample_does_not_see_the_others(name: str, arguments: dict[str, Any]) -> None:
    """The k-th draw is the same however many are made at once."""
    family = make(name, arguments)
    leaves, noise = leaves_of(family), noise_of(family, 3, 9)
    together = family.draw(leaves, noise)
    apart = torch.cat([family.draw(leaves, noise[:, :4]), family.draw(leaves, noise[:, 4:])], 1)
    torch.testing.assert_close(together, apart, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", [name for name in GUIDES if name in ("mean_field", "full_rank")])
def test_gaussians_have_the_moments_that_their_leaves_say(name: str) -> None:
    family = make(name, {})
    leaves = leaves_of(family, rows=1)
    samples = 100_000
    z = family.draw(leaves, noise_of(family, 1, samples))[0]
    distribution = family.distribution(row(leaves, 0))
    assert bool(
        ((z.mean(0) - distribution.mean).abs() < SIGMAS * distribution.stddev / math.sqrt(samples)).all()
    )
    covariance = getattr(distribution, "covariance_matrix", None)
    if covariance is None:
        covariance = torch.diag(distribution.variance)
    scale = torch.outer(distribution.stddev, distribution.stddev)
    assert bool(((torch.cov(z.T) - covariance) / scale).abs().max() < SIGMAS * math.sqrt(2 / samples))


def test_full_rank_contains_every_gaussian() -> None:
    """Its leaves solve for any Cholesky factor: diag(softplus(raw)) (I + N), row by row."""
    factor = torch.tensor([[0.5, 0, 0], [-0.7, 1.2, 0], [0.3, 2.0, 0.1]], dtype=F64)
    unit = factor / factor.diagonal()[:, None]
    lower = unit[torch.tril_indices(3, 3, -1).unbind()]
    leaves = {"loc": LOC, "raw_scale": torch.log(torch.expm1(factor.diagonal())), "lower": lower}
    made = make("full_rank", {}).distribution(leaves)
    assert isinstance(made, torch.distributions.MultivariateNormal)
    torch.testing.assert_close(made.covariance_matrix, factor @ factor.T, rtol=1e-12, atol=1e-12)


def test_delta_leaves_the_jacobian_out() -> None:
    assert make("delta", {}).jacobian is False
    assert make("mean_field", {}).jacobian is True
