"""Where guides start: every entry, for every family, and what users may ask for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Gamma, Normal

from vi_dist.errors import ModelError
from vi_dist.model.decorators import random_variable
from vi_dist.model.model import Model
from vi_dist.vi.columns import Column
from vi_dist.vi.guides.family import Family
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.initialisation import INITIALISATIONS, Places, Start, coordinates_of, start_of
from vi_dist.vi.laplace_scale import Mode
from vi_dist.vi.layout import Layout, make_layout
from vi_dist.vi.noise import NoiseSite, NoiseSpace, NormalSource
from vi_dist.vi.pack import PackProgram

F64 = torch.float64
MODE = Mode(torch.tensor([1.0, -2.0], dtype=F64), torch.tensor([[3.0, 0.0], [4.0, 0.5]], dtype=F64))
SCALED = [name for name, entry in GUIDES.items() if "point" not in entry.traits]


@random_variable
def rate() -> Gamma:
    return Gamma(torch.tensor(2.0), torch.tensor(1.0))


@random_variable
def mu() -> Normal:
    return Normal(rate(), torch.tensor(1.0))


@random_variable
def y() -> Normal:
    return Normal(mu(), torch.tensor(1.0))


@pytest.fixture(scope="module")
def model() -> Model:
    return Model([mu(), rate()], {y(): torch.tensor(0.5)})


def places(layout: Layout, mode: Mode | None = MODE) -> Places:
    """A place of every kind."""
    return Places(layout.loc, lambda: mode, lambda: torch.tensor([7.0, 8.0], dtype=F64))


def test_the_table(model: Model) -> None:
    layout = make_layout(model)
    known = places(layout)
    assert [*INITIALISATIONS] == ["prior_median", "mode", "laplace", "values"]
    assert torch.equal(start_of("prior_median", known).loc, layout.loc)
    assert start_of("mode", known) == Start(MODE.loc, 0.1)
    laplace = start_of("laplace", known)
    assert torch.equal(laplace.loc, MODE.loc)
    assert torch.equal(torch.as_tensor(laplace.scale), torch.tensor([3.0, 16.25**0.5], dtype=F64))
    assert torch.equal(start_of("values", known).loc, known.find_values())
    assert all(entry.description for entry in INITIALISATIONS.values())


@pytest.mark.parametrize("name", ["mode", "laplace"])
def test_without_a_mode_it_is_the_median(model: Model, name: str) -> None:
    layout = make_layout(model)
    assert start_of(name, places(layout, None)) == Start(layout.loc)


@pytest.mark.parametrize("name", SCALED)
def test_every_guide_starts_with_the_means_and_sds_it_is_given(name: str) -> None:
    space = NoiseSpace((NoiseSite("a", 2), NoiseSite("b", 1)))
    arguments = {"low_rank": {"rank": 1}}.get(name, {})
    family: Family = GUIDES[name].make(space, **arguments)
    loc, scale = torch.tensor([1.0, -2.0, 50.0], dtype=F64), torch.tensor([0.01, 1.0, 100.0], dtype=F64)
    leaves = {key: leaf[None] for key, leaf in family.initial(loc, scale).items()}
    noise = NormalSource(family.noise, [0], F64)(0, torch.zeros(1, 1), 20_000)[0]
    z = family.draw(leaves, noise)[0]
    # Flows start near their base, not at it.
    assert ((z.mean(0) - loc) / scale).abs().max() < 0.1
    torch.testing.assert_close(z.std(0) / scale, torch.ones(3, dtype=F64), rtol=0.12, atol=0)


def test_columns_of_one_program_start_where_each_says(
    engine: Callable[..., object], column: Callable[..., Column], model: Model
) -> None:
    made = engine(lambda: model, "full_rank")  # type: ignore[attr-defined]
    known = places(made.layout)
    columns = [column(initialisation=name) for name in INITIALISATIONS]
    program = PackProgram(
        *(made.joint, made.layout, made.family, made.program(columns).optimizer, 2, columns, 5),
        start_of=lambda name: start_of(name, known),
    )
    leaves = program.leaves(program.start().params)
    expected = [made.layout.loc, MODE.loc, MODE.loc, known.find_values(), made.layout.loc]
    assert torch.equal(leaves["loc"], torch.stack(expected))
    scales = torch.nn.functional.softplus(leaves["raw_scale"])
    torch.testing.assert_close(scales[2], torch.tensor([3.0, 16.25**0.5], dtype=F64))
    assert torch.equal(scales[0], scales[1])


def test_values_become_coordinates_and_others_follow_them(model: Model) -> None:
    layout = make_layout(model)
    names = [site.name for site in layout.latents]
    found = coordinates_of(model, layout, {"rate": 4.0})
    at = dict(zip(names, found.tolist(), strict=True))
    assert at["rate"] == pytest.approx(torch.tensor(4.0).log().item())
    assert at["mu"] == 4.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sigma": 1.0}, "names sigma, which is no latent"),
        ({"y": 1.0}, "names y, which is no latent"),
        ({"mu": torch.zeros(2)}, r"mu of shape \(2,\); it is \(\)"),
        ({"rate": -1.0}, "initial value of rate is not inside"),
        ({"mu": float("nan")}, "initial value of mu is not inside"),
    ],
)
def test_values_that_the_model_cannot_have_are_refused(
    model: Model, values: dict[str, Tensor | float], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        coordinates_of(model, make_layout(model), values)
    assert caught.value.key == "initial_values"
