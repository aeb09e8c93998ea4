"""A search that learns: what it asks depends on the spec and on what it was told, and on nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest

from vi_dist.errors import SpecError
from vi_dist.sweep.catalogue import Catalogue
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.search import Told, TpeSearch
from vi_dist.sweep.spec import GENERATION, make_spec

SPACE: dict[str, Any] = {
    "guide": ["mean_field", "full_rank", {"low_rank": {"rank": {"low": 1, "high": 16}}}],
    "divergence": ["kl_reverse", {"amari": {"alpha": {"low": 0.1, "high": 0.9}}}],
    "learning_rate": {"low": 1e-4, "high": 1.0, "log": True},
    "num_samples": [1, 8],
}


def search(catalogue: Catalogue, space: dict[str, Any] = SPACE, **keys: Any) -> TpeSearch:
    values = {"name": "a", "space": space, "search": "tpe", "configurations": 60, "generation": 20, **keys}
    return TpeSearch(make_spec(values), catalogue)


def value(one: Configuration) -> float:
    """Best at a learning rate of 0.01 with a low rank; absurd rates diverge."""
    if one.learning_rate > 0.3:
        return math.nan
    return -abs(math.log10(one.learning_rate) + 2) + (one.guide.name == "low_rank")


def told(asked: list[Configuration]) -> list[Told]:
    return [Told(value(one), 500 if place % 7 == 6 else None) for place, one in enumerate(asked)]


def generations(found: TpeSearch) -> list[list[Configuration]]:
    """All generations of a search."""
    asked = [found.ask()]
    while asked[-1]:
        found.tell(told(asked[-1]))
        asked.append(found.ask())
    return asked[:-1]


def test_it_repeats_itself(catalogue: Catalogue) -> None:
    one, other = generations(search(catalogue)), generations(search(catalogue))
    assert one == other
    assert [[c.name for c in asked] for asked in one] == [[c.name for c in asked] for asked in other]
    assert generations(search(catalogue, seed=1)) != one


def test_generations_are_distinct_and_as_many_as_asked_for(catalogue: Catalogue) -> None:
    asked = generations(search(catalogue, generation=25))
    assert [len(one) for one in asked] == [25, 25, 10]
    everything = [configuration for one in asked for configuration in one]
    assert len(set(everything)) == 60
    assert len({configuration.name for configuration in everything}) == 60
    assert search(catalogue, generation=None).generation == GENERATION


def test_it_learns(catalogue: Catalogue) -> None:
    first, *_, last = generations(search(catalogue, configurations=100))

    def good(asked: list[Configuration]) -> float:
        return sum(value(one) > 0.3 for one in asked) / len(asked)

    assert good(last) > 2 * good(first)


def test_a_long_search_learns_from_the_best_and_the_latest(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = generations(search(catalogue, configurations=140))
    monkeypatch.setattr("vi_dist.sweep.search.LEARNT_FROM", 40)
    found, other = search(catalogue, configurations=140), search(catalogue, configurations=140)
    asked = generations(found)
    assert asked == generations(other)
    assert asked[:3] == whole[:3] and asked[4:] != whole[4:]  # nothing is forgotten up to 60
    everything = [one for generation in asked for one in generation]
    assert len(set(everything)) == 140
    trials = found._opened.get_trials(deepcopy=False)
    assert len(trials) <= 60
    finished = [
        value(one) for g in asked for p, one in enumerate(g) if p % 7 != 6 and value(one) == value(one)
    ]
    best = max(trial.value for trial in trials if trial.last_step is None and trial.value is not None)
    assert best == max(finished)


def test_arguments_are_asked_only_where_they_belong(catalogue: Catalogue) -> None:
    everything = [one for asked in generations(search(catalogue)) for one in asked]
    low_rank = [one for one in everything if one.guide.name == "low_rank"]
    assert low_rank and all(1 <= dict(one.guide.arguments)["rank"] <= 16 for one in low_rank)  # type: ignore[operator]
    assert all(not one.guide.arguments for one in everything if one.guide.name != "low_rank")
    amari = [one for one in everything if one.divergence.name == "amari"]
    assert amari and all(0.1 <= dict(one.divergence.arguments)["alpha"] <= 0.9 for one in amari)  # type: ignore[operator]
    assert all(one.learning_rate == float(f"{one.learning_rate:.6g}") for one in everything)


@pytest.mark.parametrize("configurations", [5, 12])
def test_a_small_space_is_asked_through_without_repeats(catalogue: Catalogue, configurations: int) -> None:
    space = {"guide": ["mean_field", "full_rank"], "seed": [0, 1, 2], "learning_rate": [0.1, 0.01]}
    asked = generations(search(catalogue, space, configurations=configurations, generation=4))
    everything = [one for generation in asked for one in generation]
    assert len(everything) == len(set(everything)) == configurations


def test_points_that_resolve_to_one_configuration_are_asked_once(catalogue: Catalogue) -> None:
    space = {"guide": ["mean_field"], "estimator": ["auto", "reparam"], "seed": [0, 1]}
    found = search(catalogue, space, configurations=4, generation=3)
    asked = generations(found)
    assert sorted(one.seed for generation in asked for one in generation) == [0, 1]
    assert found.total == 2


def test_kinds_show_every_column_that_may_come(catalogue: Catalogue) -> None:
    found = search(catalogue)
    kinds = {(one.guide.name, one.divergence.name, one.estimator.name) for one in found.kinds}
    for asked in generations(found):
        assert {(one.guide.name, one.divergence.name, one.estimator.name) for one in asked} <= kinds


def test_what_cannot_be_combined_is_refused_before_anything_is_asked(catalogue: Catalogue) -> None:
    space = {"divergence": ["kl_reverse", "total_variation"], "estimator": ["reparam", "stl"]}
    with pytest.raises(SpecError, match="stl has no gradient") as caught:
        search(catalogue, {**space, "learning_rate": SPACE["learning_rate"]})
    assert caught.value.key == "space.divergence[1]"


def test_more_than_the_space_holds_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(SpecError, match="the space holds 2") as caught:
        search(catalogue, {"seed": [0, 1]})
    assert caught.value.key == "configurations"


@pytest.mark.parametrize(
    ("keys", "key", "message"),
    [
        ({"search": "tpe"}, "configurations", "a tpe search needs a number of configurations"),
        ({"search": "qmc"}, "configurations", "a qmc search needs a number of configurations"),
        ({"generation": 8}, "generation", "a grid search has no generations; write search: tpe"),
        ({"search": "tpe", "configurations": 9, "generation": 0}, "generation", "0 is too small"),
    ],
)
def test_keys_that_do_not_belong_together(keys: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        make_spec({"name": "a", "space": {"seed": [0, 1]}, **keys})
    assert caught.value.key == key
