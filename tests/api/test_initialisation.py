"""Initialisation as users write it: in a fit, in a sweep, with values of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.distributions import Normal

from vi_dist import Experiment, Model, SpecError, random_variable
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.setup import Setup


def build() -> Model:
    """A posterior of mean 60 and sd 0.1: far from the prior's median."""

    @random_variable
    def mu() -> Normal:
        return Normal(torch.tensor(0.0), 100.0)

    @random_variable
    def y() -> Normal:
        return Normal(mu(), torch.tensor(0.1))

    return Model([mu()], {y(): torch.tensor(60.0)})


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return Experiment(build, name="far")


@pytest.mark.parametrize(
    ("initialisation", "values", "near"),
    [
        ("prior_median", None, False),
        ("mode", None, True),
        ("laplace", None, True),
        ("values", {"mu": 60.0}, True),
    ],
)
def test_a_fit_starts_there(
    experiment: Experiment, initialisation: str, values: dict[str, float] | None, near: bool
) -> None:
    fit = experiment.fit(
        initialisation=initialisation, initial_values=values, steps=20, samples=64, compile="never"
    )
    assert (abs(float(fit.params["loc"]) - 60) < 1) is near
    if initialisation == "laplace":
        assert fit.iw_elbo - fit.elbo < 0.05


def test_a_sweep_compares_them(
    experiment: Experiment, tmp_path: Path, with_store: Callable[[Path], Path]
) -> None:
    result = experiment.sweep(
        {"initialisation": ["prior_median", "values"]},
        initial_values={"mu": 60.0},
        steps=5,
        executor="inline",
        compile="never",
        evaluation={"samples": 64},
        output_dir=with_store(tmp_path),
    )
    assert result.dataframe()["name"][0].endswith("-values")
    assert abs(float(result.best().params["loc"]) - 60) < 1


def test_keys_tell_values_apart() -> None:
    setups = [
        Setup(BuildSource(function=build), initial_values=values)
        for values in (None, {"mu": 1.0}, {"mu": 2.0})
    ]
    assert len({setup.version() for setup in setups}) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initialisation": "values"}, "takes them from Python"),
        ({"initialisation": "median"}, "median"),
        ({"initialisation": "values", "initial_values": {"nu": 1.0}}, "nu, which is no latent"),
    ],
)
def test_what_cannot_be_is_refused(
    experiment: Experiment, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        experiment.fit(steps=5, **arguments)  # type: ignore[arg-type]
