from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vi_dist.errors import SpecError
from vi_dist.sweep.catalogue import Catalogue
from vi_dist.sweep.configuration import Choice, Configuration
from vi_dist.sweep.space import resolve, resolve_one
from vi_dist.sweep.spec import make_spec


def _values(*options: Any) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(options), min_size=1, max_size=3, unique_by=repr)


LOW_RANK = {"low_rank": {"rank": [2, 4]}}
finite = st.fixed_dictionaries(
    {"guide": _values("mean_field", "full_rank", LOW_RANK, "nsf", {"nsf": {"bins": [4, 8], "hidden": 64}})},
    optional={
        "divergence": _values("kl_reverse", "kl_forward", {"amari": {"alpha": [0.5, 2]}}),
        "estimator": _values("auto", "reparam", "score", {"vr_iwae": {"order": 0.5}}),
        "learning_rate": _values(0.01, 0.010001, 0.0100000001, 0.1, "1e-2"),
        "num_samples": _values(1, 8),
        "steps": _values(10, 20),
        "optimizer": _values(
            "adam", "sgd", {"sgd": {"momentum": 0.9}}, {"adam": {"beta1": 0.5}}, {"adam": {"beta2": 0.5}}
        ),
        "schedule": _values("constant", "cosine", {"cosine": {"final": [0.1, 0.0]}}),
        "seed": _values(0, 1, 2),
    },
).filter(lambda space: "1e-2" not in space.get("learning_rate", []) or 0.01 not in space["learning_rate"])


def sweep(catalogue: Catalogue, space: dict[str, Any], **keys: Any) -> list[Configuration]:
    return resolve(make_spec({"name": "a", "space": space, **keys}), catalogue)


@settings(deadline=None)
@given(finite)
def test_a_grid_is_every_configuration_once_under_a_name_of_its_own(catalogue: Catalogue, space: Any) -> None:
    grid = sweep(catalogue, space)
    assert len(set(grid)) == len(grid)
    assert len({configuration.name for configuration in grid}) == len(grid)
    assert all(configuration.estimator.name != "auto" for configuration in grid)
    turned = sweep(catalogue, dict(reversed(space.items())))
    assert [(c, c.name) for c in turned] == [(c, c.name) for c in grid]


@settings(deadline=None, max_examples=25)
@given(finite, st.integers(0, 9), st.data())
def test_a_random_search_draws_from_the_grid_and_ends_as_all_of_it(
    catalogue: Catalogue, space: Any, seed: int, data: st.DataObject
) -> None:
    grid = sweep(catalogue, space, seed=seed)
    some = data.draw(st.integers(1, len(grid)))
    drawn = sweep(catalogue, space, search="random", configurations=some, seed=seed)
    assert len(set(drawn)) == some
    assert set(drawn) <= set(grid)
    whole = sweep(
        catalogue, dict(reversed(space.items())), search="random", configurations=len(grid), seed=seed
    )
    assert set(whole) == set(grid)
    assert whole[:some] == drawn


def test_a_grid_walks_its_dimensions_in_their_fixed_order(catalogue: Catalogue) -> None:
    space = {"seed": [1, 0], "learning_rate": [0.1, 0.01], "guide": ["full_rank", LOW_RANK]}
    names = [configuration.name for configuration in sweep(catalogue, space)]
    assert names == [
        f"{guide}-kl_reverse-lr{rate}-s{seed}"
        for guide in ("full_rank", "low_rank2", "low_rank4")
        for rate in ("0.1", "0.01")
        for seed in (1, 0)
    ]
    assert [configuration.name for configuration in sweep(catalogue, space, configurations=3)] == names[:3]


def test_absent_dimensions_take_the_sweeps_value_or_the_default(catalogue: Catalogue) -> None:
    (plain,) = sweep(catalogue, {"guide": ["full_rank"]})
    adam = Choice("adam", (("beta1", 0.9), ("beta2", 0.9)))
    assert plain == Configuration(
        guide=Choice("full_rank"),
        divergence=Choice("kl_reverse"),
        estimator=Choice("reparam"),
        optimizer=adam,
        schedule=Choice("constant"),
        learning_rate=0.01,
        num_samples=8,
        steps=2000,
        seed=0,
        dtype="float32",
        averaging=0.1,
    )
    keys = {
        "steps": 5,
        "num_samples": 2,
        "seed": 7,
        "dtype": "float64",
        "optimizer": {"sgd": {"momentum": "1e-1"}},
    }
    (other,) = sweep(catalogue, {"guide": ["full_rank"]}, schedule="cosine", **keys)
    assert (other.steps, other.num_samples, other.seed, other.dtype) == (5, 2, 7, "float64")
    assert str(other.optimizer) == "sgd(momentum=0.1)"
    assert str(other.schedule) == "cosine(final=0)"
    (inner,) = sweep(catalogue, {"steps": [9], "optimizer": ["sgd"], "seed": 3}, **keys)
    assert (inner.steps, str(inner.optimizer), inner.seed) == (9, "sgd(momentum=0)", 3)


def test_two_ways_to_one_configuration_count_once(catalogue: Catalogue) -> None:
    space = {"guide": ["mean_field", "student_t", {"student_t": {"df": 5}}], "estimator": ["auto", "reparam"]}
    grid = sweep(catalogue, space)
    assert [configuration.name for configuration in grid] == [
        "mean_field-kl_reverse-lr0.01-s0",
        "student_t-kl_reverse-lr0.01-s0",
        "student_t-kl_reverse-reparam-lr0.01-s0",
    ]
    assert [configuration.estimator.name for configuration in grid] == ["reparam", "score", "reparam"]
    with pytest.raises(SpecError, match="the space holds 3") as caught:
        sweep(catalogue, space, search="random", configurations=4)
    assert caught.value.key == "configurations"


@pytest.mark.parametrize(
    ("space", "names"),
    [
        ({"num_samples": [1, 8]}, ["m-lr0.01-s0-samples1", "m-lr0.01-s0-samples8"]),
        ({"steps": [10, 20]}, ["m-lr0.01-s0-steps10", "m-lr0.01-s0-steps20"]),
        ({"optimizer": ["adam", "sgd"]}, ["m-lr0.01-s0-adam", "m-lr0.01-s0-sgd"]),
        ({"averaging": [0, 0.25]}, ["m-lr0.01-s0-average0", "m-lr0.01-s0-average0.25"]),
        ({"schedule": ["constant", "cosine"]}, ["m-lr0.01-s0-constant", "m-lr0.01-s0-cosine"]),
        ({"estimator": ["reparam", "score"]}, ["m-reparam-lr0.01-s0", "m-score-lr0.01-s0"]),
        ({"learning_rate": [0.001, 10**-2.5]}, ["m-lr0.001-s0", "m-lr0.00316-s0"]),
        ({"learning_rate": [0.01, 0.010001]}, ["m-lr0.01-s0", "m-lr0.010001-s0"]),
        ({"learning_rate": [0.1, 0.01, 0.010001]}, ["m-lr0.1-s0", "m-lr0.01-s0", "m-lr0.010001-s0"]),
        (
            {"optimizer": [{"adam": {"beta1": 0.5}}, {"adam": {"beta2": 0.5}}]},
            [
                f"m-lr0.01-s0-samples8-steps2000-average0.1-adam(beta1={a}, beta2={b})-constant-prior_median-reparam"
                for a, b in ((0.5, 0.9), (0.9, 0.5))
            ],
        ),
    ],
)
def test_names_tell_what_differs(catalogue: Catalogue, space: Any, names: list[str]) -> None:
    found = [configuration.name for configuration in sweep(catalogue, space)]
    assert found == [name.replace("m-", "mean_field-kl_reverse-", 1) for name in names]


def test_a_random_search_repeats_itself_on_every_machine(catalogue: Catalogue) -> None:
    space = {
        "guide": ["mean_field", {"low_rank": {"rank": {"low": 2, "high": 64, "log": True}}}],
        "divergence": [{"amari": {"alpha": {"low": 0, "high": 1}}}],
        "learning_rate": {"low": 0.001, "high": 0.1, "log": True},
        "seed": [0, 1, 2],
    }
    names = [
        configuration.name for configuration in sweep(catalogue, space, search="random", configurations=6)
    ]
    assert names == [
        "mean_field-amari0.141-lr0.0796-s1",
        "mean_field-amari0.79-lr0.0262-s0",
        "low_rank7-amari0.926-lr0.011-s2",
        "mean_field-amari0.206-lr0.00317-s0",
        "low_rank47-amari0.37-lr0.00118-s2",
        "mean_field-amari0.028-lr0.0253-s2",
    ]


def test_another_dimension_changes_no_others_draws(catalogue: Catalogue) -> None:
    space = {"learning_rate": {"low": 0.001, "high": 0.1}, "seed": [0, 1, 2]}
    few = sweep(catalogue, space, search="random", configurations=9)
    more = sweep(
        catalogue,
        space | {"num_samples": [1, 8], "guide": ["full_rank", LOW_RANK]},
        search="random",
        configurations=9,
    )
    assert [(c.learning_rate, c.seed) for c in few] == [(c.learning_rate, c.seed) for c in more]
    other = sweep(catalogue, space, search="random", configurations=9, seed=1)
    assert not {c.learning_rate for c in few} & {c.learning_rate for c in other}


@pytest.mark.parametrize("log", [False, True])
def test_draws_fill_their_range_evenly(catalogue: Catalogue, log: bool) -> None:
    space = {
        "learning_rate": {"low": 0.001, "high": 0.1, "log": log},
        "num_samples": {"low": 1, "high": 8, "log": log},
        "guide": ["mean_field", "full_rank"],
    }
    drawn = sweep(catalogue, space, search="random", configurations=400)
    rates = [configuration.learning_rate for configuration in drawn]
    assert 0.001 <= min(rates) < max(rates) <= 0.1
    assert {configuration.num_samples for configuration in drawn} == set(range(1, 9))
    # Three binomial standard errors of a half.
    band = 3 * 0.5 / 400**0.5
    assert abs(sum(rate < (0.01 if log else 0.0505) for rate in rates) / 400 - 0.5) < band
    assert abs(sum(c.num_samples <= (2 if log else 4) for c in drawn) / 400 - 0.5) < band
    assert abs(sum(c.guide.name == "full_rank" for c in drawn) / 400 - 0.5) < band


def test_a_narrow_range_is_not_rounded_away(catalogue: Catalogue) -> None:
    space = {"learning_rate": {"low": 0.01, "high": 0.01000001}}
    drawn = sweep(catalogue, space, search="random", configurations=50)
    assert len({configuration.name for configuration in drawn}) == 50


def test_one_fit_is_resolved_by_the_same_rules(catalogue: Catalogue) -> None:
    one = resolve_one({"guide": {"low_rank": {"rank": 3}}, "learning_rate": "1e-3", "steps": 7}, catalogue)
    assert (str(one.guide), one.learning_rate, one.steps, one.num_samples) == (
        "low_rank(rank=3)",
        0.001,
        7,
        8,
    )
    assert one.name == "low_rank3-kl_reverse-lr0.001-s0"
    assert resolve_one({}, catalogue, "float64").dtype == "float64"
    with pytest.raises(SpecError, match="unknown guide 'mean_feild'") as caught:
        resolve_one({"guide": "mean_feild"}, catalogue)
    assert caught.value.key == "guide"
    with pytest.raises(SpecError, match="several are a sweep") as caught:
        resolve_one({"seed": [0, 1]}, catalogue)
    assert caught.value.key == "seed"
    with pytest.raises(SpecError, match="stl has no gradient") as caught:
        resolve_one({"divergence": "total_variation", "estimator": "stl"}, catalogue)
    assert caught.value.key == "divergence"


QMC: dict[str, Any] = {
    "guide": ["mean_field", {"low_rank": {"rank": {"low": 2, "high": 64, "log": True}}}],
    "divergence": [{"amari": {"alpha": {"low": 0, "high": 1}}}],
    "learning_rate": {"low": 0.001, "high": 0.1, "log": True},
}


def test_a_quasi_random_search_repeats_itself_and_keeps_its_first_ones(catalogue: Catalogue) -> None:
    few = sweep(catalogue, QMC, search="qmc", configurations=20)
    assert sweep(catalogue, QMC, search="qmc", configurations=150)[:20] == few
    assert sweep(catalogue, dict(reversed(QMC.items())), search="qmc", configurations=20) == few
    assert sweep(catalogue, QMC, search="qmc", configurations=20, seed=1) != few


def test_a_quasi_random_search_fills_the_space_more_evenly_than_chance(catalogue: Catalogue) -> None:
    found = sweep(catalogue, QMC, search="qmc", configurations=64)
    # A net in base 2: of 64 points one lies in every 64th of a coordinate.
    cells = {int((math.log10(one.learning_rate) + 3) / 2 * 64 - 1e-9) for one in found}
    assert len(cells) >= 63  # rounding to six digits may move one across
    assert sum(one.guide.name == "low_rank" for one in found) == 32


def test_a_quasi_random_search_ends_as_the_whole_grid(catalogue: Catalogue) -> None:
    space = {"guide": ["mean_field", "full_rank", LOW_RANK], "seed": [0, 1, 2]}
    found = sweep(catalogue, space, search="qmc", configurations=12)
    assert set(found) == set(sweep(catalogue, space))
