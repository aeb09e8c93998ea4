"""Discrete latents in a density: sums over their values, and values drawn given everything else."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Distribution,
    Independent,
    LogNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    Poisson,
    Uniform,
)

from vi_dist.errors import ModelError
from vi_dist.model.decorators import functional, random_variable
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.model import Model
from vi_dist.vi.context import model_context
from vi_dist.vi.density import Density
from vi_dist.vi.layout import make_layout
from vi_dist.vi.summed_out_check import check_summed_out
from vi_dist.vi.trace import trace_joint

Y = torch.tensor([-2.5, -1.0, 0.2, 1.8, 2.2, 3.0], dtype=torch.float64)
FLATS = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def few() -> Model:
    """Two discrete latents of six combinations, on which a continuous one and the data depend."""

    @random_variable
    def kind() -> Distribution:
        return Categorical(torch.tensor([0.2, 0.5, 0.3]))

    @random_variable
    def flip() -> Distribution:
        return Bernoulli(0.1 + 0.3 * kind())

    @random_variable
    def theta() -> Distribution:
        return Normal(torch.zeros(3) + kind(), 1.0)

    @random_variable
    def y() -> Distribution:
        return Normal(theta()[kind()] * (1 - 2 * flip()), 1.0).expand(Y.shape)

    @functional
    def both() -> Tensor:
        return kind() + flip()

    return Model([theta(), kind(), flip(), both()], {y(): Y})


def mixture() -> Model:
    """A class for every row: 64 combinations would do, and 2^60 (with ten times the rows) would not."""
    y_data = Y.repeat(10)

    @random_variable
    def weight() -> Distribution:
        return Beta(2.0, 2.0)

    @random_variable
    def mu() -> Distribution:
        return Normal(torch.zeros(2), 3.0)

    @random_variable
    def z() -> Distribution:
        return Bernoulli(weight().expand(y_data.shape))

    @random_variable
    def y() -> Distribution:
        return Normal(mu()[z().long()], 1.0)

    return Model([weight(), mu(), z()], {y(): y_data})


def branching() -> Model:
    """The model's Python reads the discrete value, which no batch has."""

    @random_variable
    def coin() -> Distribution:
        return Bernoulli(0.3)

    @random_variable
    def theta() -> Distribution:
        return Normal(torch.zeros(3), 1.0)

    @random_variable
    def y() -> Distribution:
        return Normal(theta()[0] + 2.0 if coin() else theta()[1], 1.0).expand(Y.shape)

    return Model([theta(), coin()], {y(): Y})


def density(build: Callable[[], Model]) -> Density:
    with model_context(torch.float64):
        model = build()
        made = Density(model, make_layout(model))
        check_summed_out(made)
    return made


def value(made: Density, flat: Tensor) -> Tensor:
    with model_context(torch.float64):
        return made(flat)


def test_all_combinations_are_summed_over() -> None:
    made = density(few)
    for flat in FLATS:
        terms = []
        for kind, prior in enumerate((0.2, 0.5, 0.3)):
            for flip in (0, 1):
                heads = 0.1 + 0.3 * kind
                of_theta = Normal(float(kind), 1.0).log_prob(flat).sum()
                of_y = Normal(flat[kind] * (1 - 2 * flip), 1.0).log_prob(Y).sum()
                terms.append(math.log(prior * (heads if flip else 1 - heads)) + of_theta + of_y)
        torch.testing.assert_close(value(made, flat), torch.logsumexp(torch.stack(terms), 0))


def test_elements_that_act_one_by_one_are_summed_one_by_one() -> None:
    made = density(mixture)
    assert made.layout.summed_out is not None
    assert made.layout.summed_out.shape == (60,)
    for flat in FLATS:
        weight = flat[0].sigmoid()
        both = MixtureSameFamily(Categorical(torch.stack((1 - weight, weight))), Normal(flat[1:], 1.0))
        prior = Beta(2.0, 2.0).log_prob(weight) + Normal(0.0, 3.0).log_prob(flat[1:]).sum()
        jacobian = (weight * (1 - weight)).log()
        torch.testing.assert_close(value(made, flat), both.log_prob(Y.repeat(10)).sum() + prior + jacobian)


def test_elements_with_events_and_a_second_latent_beside_them() -> None:
    """Rows of two columns, one-hot classes and a sign for each row: 6^20 combinations, 6 of each row."""
    rows = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def build() -> Model:
        @random_variable
        def mu() -> Distribution:
            return Normal(torch.zeros(3), 1.0)

        @random_variable
        def label() -> Distribution:
            return OneHotCategorical(torch.tensor([0.2, 0.3, 0.5]).expand(20, 3))

        @random_variable
        def sign() -> Distribution:
            return Bernoulli(torch.full((20,), 0.4))

        @random_variable
        def y() -> Distribution:
            middle = (label() @ mu()) * (1 - 2 * sign())
            return Independent(Normal(middle[:, None].expand(20, 2), 1.0), 1)

        return Model([mu()], {y(): rows})

    made = density(build)
    for flat in FLATS:
        weights = (torch.tensor([0.2, 0.3, 0.5])[:, None] * torch.tensor([0.6, 0.4])).reshape(-1).double()
        means = torch.stack((flat, -flat), 1).reshape(-1)
        components = Independent(Normal(means[:, None].expand(6, 2), 1.0), 1)
        both = MixtureSameFamily(Categorical(weights), components)
        expected = both.log_prob(rows).sum() + Normal(0.0, 1.0).log_prob(flat).sum()
        torch.testing.assert_close(value(made, flat), expected)


def test_a_model_that_reads_the_value_runs_once_for_each() -> None:
    made = density(branching)
    for flat in FLATS:
        prior = Normal(0.0, 1.0).log_prob(flat).sum()
        heads = math.log(0.3) + Normal(flat[0] + 2.0, 1.0).log_prob(Y).sum()
        tails = math.log(0.7) + Normal(flat[1], 1.0).log_prob(Y).sum()
        torch.testing.assert_close(value(made, flat), prior + torch.logaddexp(heads, tails))


@pytest.mark.parametrize("build", [few, mixture, branching])
def test_the_traced_density_is_flat_and_the_same(build: Callable[[], Model]) -> None:
    made = density(build)
    joint = trace_joint(made, dtype=torch.float64)
    assert joint.mode == "flat"
    plain = torch.stack([value(made, flat) for flat in FLATS])
    torch.testing.assert_close(joint.value(FLATS), plain)
    own, slopes = joint.value_and_gradient(FLATS)
    torch.testing.assert_close(own, plain)
    assert torch.autograd.gradcheck(lambda flat: value(made, flat), FLATS[0].clone().requires_grad_())
    assert slopes.isfinite().all()


def test_values_are_drawn_from_their_distribution_given_all_else() -> None:
    made = density(few)
    # The same point but for its last bits, each of which is another draw.
    rows = FLATS[0] + 1e-9 * torch.arange(4000, dtype=torch.float64)[:, None]
    with model_context(torch.float64):
        drawn = torch.vmap(made.constrain)(rows)
        again = torch.vmap(made.constrain)(rows)
    assert torch.equal(drawn["kind"], again["kind"])
    assert torch.equal(drawn["both"], drawn["kind"] + drawn["flip"])
    logits = torch.tensor(
        [
            [
                math.log(prior * (heads if flip else 1 - heads))
                + float(Normal(float(kind), 1.0).log_prob(FLATS[0]).sum())
                + float(Normal(FLATS[0][kind] * (1 - 2 * flip), 1.0).log_prob(Y).sum())
                for flip in (0, 1)
            ]
            for kind, (prior, heads) in enumerate(((0.2, 0.1), (0.5, 0.4), (0.3, 0.7)))
        ]
    )
    expected = torch.softmax(logits.reshape(-1), 0).reshape(3, 2)
    for kind in range(3):
        for flip in range(2):
            share = ((drawn["kind"] == kind) & (drawn["flip"] == flip)).double().mean()
            error = math.sqrt(expected[kind, flip] * (1 - expected[kind, flip]) / 4000)
            assert abs(share - expected[kind, flip]) < 4.5 * error + 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_elements_are_drawn_independently_of_each_other(dtype: torch.dtype) -> None:
    def build() -> Model:
        @random_variable
        def theta() -> Distribution:
            return Normal(torch.tensor(0.0), 1.0)

        @random_variable
        def flips() -> Distribution:
            return Bernoulli(torch.full((40,), 0.3))

        @random_variable
        def y() -> Distribution:
            return Normal(theta() + 0.0 * flips(), 1.0)

        return Model([theta(), flips()], {y(): torch.zeros(40)})

    with model_context(dtype):
        model = build()
        made = Density(model, make_layout(model))
        rows = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
        drawn = torch.vmap(made.constrain)(rows)
    flips = drawn["flips"]
    assert abs(flips.mean() - 0.3) < 4.5 * math.sqrt(0.21 / flips.numel())
    correlations = torch.corrcoef(torch.cat((flips, rows), 1).T)
    correlations.fill_diagonal_(0)
    assert correlations.abs().max() < 5.5 / math.sqrt(4000)


def rows_of(z: Callable[[], Distribution], y: Callable[..., Distribution], data: Tensor) -> Model:
    """A mixture's mean for each class, the classes, and data that see both."""
    mu = named("mu", lambda: Normal(torch.zeros(3), 3.0))
    classes = named("z", z)
    seen = named("y", lambda: y(mu(), classes()))
    return Model([mu(), classes()], {seen(): data})


def named(name: str, function: Callable[[], Distribution]) -> Callable[[], RVIdentifier]:
    function.__name__ = name
    made: Callable[[], RVIdentifier] = random_variable(function)
    return made


def flips() -> Distribution:
    return Bernoulli(torch.full((20,), 0.3))


def known_labels() -> Distribution:
    """Fifteen of twenty rows of one class for sure."""
    logits = torch.zeros(20, 3)
    logits[5:, 1:] = -math.inf
    return Categorical(logits=logits)


def linked() -> Model:
    """Two elements that must be the same, which only a mix that tells them apart can show."""
    mu = named("mu", lambda: Normal(torch.tensor(0.0), 3.0))
    z = named("z", flips)
    y = named("y", lambda: Normal(mu() + 2 * z(), 1.0))
    link = named("link", lambda: Normal(z()[5] - z()[1], 0.05))
    return Model([mu(), z()], {y(): torch.zeros(20), link(): torch.tensor(0.0)})


def total_among_many() -> Model:
    """Sixty thousand rows beside which the total of the elements hardly counts."""
    mu = named("mu", lambda: Normal(torch.tensor(0.0), 3.0))
    z = named("z", flips)
    many = named("many", lambda: Normal(mu(), 1.0).expand((60_000,)))
    total = named("total", lambda: Normal(z().sum(), 1.5))
    return Model([mu(), z()], {many(): torch.zeros(60_000), total(): torch.tensor(10.0)})


NOT_ONE_BY_ONE: dict[str, Callable[[], Model]] = {
    "a chain": lambda: rows_of(flips, lambda mu, z: Normal(mu[0] + z.cumsum(0), 1.0), torch.zeros(20)),
    "a chain of classes": lambda: rows_of(
        flips, lambda mu, z: Normal(mu[z.cumsum(0).long() % 2], 1.0), torch.zeros(20)
    ),
    "a chain with known labels": lambda: rows_of(
        known_labels, lambda mu, z: Normal(mu[0] + z.cumsum(0), 1.0), torch.zeros(20)
    ),
    "another order": lambda: rows_of(
        flips, lambda mu, z: Normal(mu[0] * z.flip(0), 1.0), torch.linspace(-1, 1, 20)
    ),
    "the last axis": lambda: rows_of(
        flips, lambda mu, z: Normal(mu[z.long()].expand(5, 20), 1.0), torch.ones(5, 20)
    ),
    "as a whole": lambda: rows_of(
        flips, lambda mu, z: MultivariateNormal(mu + z.mean(), torch.eye(3)), torch.zeros(3)
    ),
    "linked": linked,
    "a total": total_among_many,
}


@pytest.mark.parametrize("build", NOT_ONE_BY_ONE.values(), ids=NOT_ONE_BY_ONE)
def test_elements_that_do_not_act_one_by_one_are_refused(build: Callable[[], Model]) -> None:
    with pytest.raises(ModelError, match=r"z have too many .* do not act one by one") as caught:
        density(build)
    assert "experiments/hmm_example" in str(caught.value)


def positive_for_each() -> Model:
    """A continuous latent for each element, whose support the element decides."""
    z = named("z", flips)
    theta = named("theta", lambda: Uniform(torch.zeros(20), 1 + z()))
    y = named("y", lambda: Normal(theta(), 1.0))
    return Model([theta(), z()], {y(): torch.ones(20)})


ONE_BY_ONE: dict[str, Callable[[], Model]] = {
    "known labels": lambda: rows_of(known_labels, lambda mu, z: Normal(mu[z], 1.0), torch.zeros(20)),
    "five thousand rows": lambda: rows_of(
        lambda: Categorical(torch.tensor([0.2, 0.3, 0.5]).expand(5000, 3)),
        lambda mu, z: Normal(mu[z], 1.0),
        torch.linspace(-3, 3, 5000),
    ),
    "independent": lambda: rows_of(
        lambda: Independent(flips(), 1), lambda mu, z: Normal(mu[z.long()], 1.0), torch.zeros(20)
    ),
    "a support for each": positive_for_each,
    "none": lambda: rows_of(
        lambda: Bernoulli(torch.zeros(0)), lambda mu, z: Normal(mu[0] + z, 1.0), torch.zeros(0)
    ),
}


@pytest.mark.parametrize("build", ONE_BY_ONE.values(), ids=ONE_BY_ONE)
def test_elements_that_act_one_by_one_are_taken(build: Callable[[], Model]) -> None:
    made = density(build)
    assert value(made, made.layout.start).isfinite()


def counting() -> Model:
    theta = named("theta", lambda: Normal(torch.tensor(0.0), 1.0))
    n = named("n", lambda: Poisson(3.0))
    y = named("y", lambda: Normal(theta() + n(), 1.0))
    return Model([theta(), n()], {y(): torch.tensor(0.0)})


def two_shapes() -> Model:
    theta = named("theta", lambda: Normal(torch.tensor(0.0), 1.0))
    one, two = named("one", flips), named("two", lambda: Bernoulli(torch.full((5,), 0.3)))
    y = named("y", lambda: Normal(theta() + one().sum() + two().sum(), 1.0))
    return Model([theta()], {y(): torch.tensor(0.0)})


def thinned() -> Model:
    theta = named("theta", lambda: Normal(torch.tensor(0.0), 1.0))
    n = named("n", lambda: Binomial(3, torch.tensor(0.5)))
    k = named("k", lambda: Binomial(n(), torch.tensor(0.5)))
    y = named("y", lambda: Normal(theta() + k(), 1.0))
    return Model([theta(), k()], {y(): torch.tensor(3.0)})


def zero_inflated() -> Model:
    rate = named("rate", lambda: LogNormal(0.0, 1.0))
    on = named("on", lambda: Bernoulli(torch.full((3,), 0.5)))
    y = named("y", lambda: Poisson(rate() * on()))
    return Model([rate(), on()], {y(): torch.tensor([0.0, 2.0, 3.0])})


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (counting, "n, a Poisson, cannot be listed"),
        (two_shapes, r"one \(2\^20 values\), two \(2\^5 values\) have more than 256 combinations"),
        (thinned, "k takes other values"),
        (zero_inflated, "some value of on makes the observations impossible"),
    ],
)
def test_what_cannot_be_summed_is_refused(build: Callable[[], Model], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        density(build)
