"""Faults in a model, its data and the arguments of a fit are errors that name what, where and the cure."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Beta, Normal

from vi_dist import Experiment, Model, ModelError, SpecError, random_variable

FAST: dict[str, Any] = {"steps": 5, "samples": 32, "compile": "never"}


@random_variable
def mu() -> Normal:
    return Normal(torch.zeros(3), 1.0)


@random_variable
def y() -> Normal:
    return Normal(mu().sum(), torch.ones(3))


def build(data: Any) -> Model:
    return Model([mu()], {y(): data["y"]})


def experiment(data: Any = None, **arguments: Any) -> Experiment:
    return Experiment(
        build, name="faulty", data={"y": [1.0, 2.0, 3.0]} if data is None else data, **arguments
    )


@pytest.mark.parametrize("values", [[0.5], 0.5, "mu"])
def test_initial_values_are_a_dict(values: Any) -> None:
    with pytest.raises(SpecError, match="is no mapping of latents") as error:
        experiment().fit(initialisation="values", initial_values=values, **FAST)
    assert error.value.key == "initial_values"


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta", ""])
def test_a_device_that_is_none_is_named(device: str) -> None:
    with pytest.raises(SpecError, match="is no device that torch can use here") as error:
        experiment().fit(device=device, **FAST)
    assert error.value.key == "device" and "cpu" in error.value.allowed


def test_a_model_that_fails_names_its_variable_and_the_lengths_of_its_data() -> None:
    @random_variable
    def z() -> Normal:
        return Normal(mu() * torch.ones(4), 1.0)

    def faulty(data: Any) -> Model:
        return Model([mu(), z()], {y(): data["y"]})

    with pytest.raises(
        ModelError, match=r"size of tensor.*raised by z.*different lengths: y 3, n one number"
    ):
        Experiment(faulty, name="faulty", data={"y": [1.0, 2.0, 3.0], "n": 2}).fit(**FAST)


@pytest.mark.parametrize("asked", [{"holdout": 0.3, "objective": "elpd"}, {"reference": "reference.json"}])
def test_so_does_one_that_something_else_looks_at_first(asked: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "reference.json").write_text('{"mu[0]": {"mean": 0.0, "sd": 1.0}}')

    @random_variable
    def z() -> Normal:
        return Normal(mu() * torch.ones(4), 1.0)

    def faulty(data: Any) -> Model:
        return Model([mu(), z()], {y(): data["y"]})

    if "reference" in asked:
        asked = {"reference": tmp_path / asked["reference"]}
    with pytest.raises(ModelError, match="fails at its prior median in float64: .* raised by z"):
        Experiment(faulty, name="faulty", data={"y": [1.0, 2.0, 3.0]}).sweep(
            {"guide": ["mean_field"]}, executor="inline", output_dir=tmp_path, **asked
        )


def test_columns_are_those_that_build_gets() -> None:
    data = pd.DataFrame({"y": [1.0, 2.0, 3.0], "note": ["a", None, "b"], "odd": [1j, 2j, 3j]})
    one, two = experiment(data).fit(**FAST), experiment(data, columns=["y"]).fit(**FAST)
    assert one.elbo == two.elbo
    with pytest.raises(ModelError, match="no column z"):
        experiment(data, columns=["z"]).fit(**FAST)

    def reads_all(data: Any) -> Model:
        return Model([mu()], {y(): {**data}["y"]})

    with pytest.raises(ModelError, match=r"note is missing \(NaN\) at row 1"):
        Experiment(reads_all, name="faulty", data=data).fit(**FAST)


def test_outcomes_of_any_type_give_one_fit() -> None:
    @random_variable
    def p() -> Beta:
        return Beta(2.0, 2.0)

    @random_variable
    def outcome() -> Bernoulli:
        return Bernoulli(p().expand(4))

    seen = torch.tensor([1, 0, 1, 1])
    found = {
        Experiment(
            lambda data: Model([p()], {outcome(): data["y"]}), name="outcomes", data={"y": seen.to(kind)}
        )
        .fit(**FAST)
        .elbo
        for kind in (torch.float64, torch.int64, torch.bool, torch.uint8)
    }
    assert len(found) == 1


@pytest.mark.parametrize("trainable", [True, False])
def test_a_parameter_closed_over_is_said_not_to_be_trained(
    trainable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    layer = nn.Linear(3, 3).requires_grad_(trainable)
    before = layer.weight.detach().clone()

    @random_variable
    def seen() -> Normal:
        return Normal(layer(mu()), 1.0)

    with caplog.at_level(logging.WARNING, "vi_dist"):
        made = Experiment(
            lambda data: Model([mu()], {seen(): data["y"]}), name="closed", data={"y": [1.0, 2, 3]}
        )
        assert made.fit(**FAST).status == "finished"
    assert ("are not trained" in caplog.text) == trainable
    assert torch.equal(layer.weight, before)
