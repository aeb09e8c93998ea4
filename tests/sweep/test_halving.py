"""Who goes on at a rung: a function of the values alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vi_dist.errors import SpecError
from vi_dist.sweep.catalogue import Catalogue
from vi_dist.sweep.halving import Halving, Rung, halving_of
from vi_dist.sweep.space import resolve
from vi_dist.sweep.spec import load_spec, make_spec

values = st.dictionaries(
    st.integers(0, 200), st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=40
)


def rung(found: dict[int, float], kept: int, entered: int | None = None) -> Rung:
    return Rung(1, 2, 500, found, entered or len(found), kept)


@given(values, st.randoms(use_true_random=False), st.integers(2, 5))
def test_the_order_of_arrival_changes_nothing(found: dict[int, float], random: object, eta: int) -> None:
    items = list(found.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    kept = Halving(eta, 1).kept(len(found))
    one, other = rung(found, kept), rung(dict(items), kept)
    assert one.survivors == other.survivors and one.stopped == other.stopped
    assert sorted((*one.survivors, *one.stopped)) == sorted(found)
    assert len(one.survivors) == math.ceil(len(found) / eta)


@given(values, st.integers(2, 5))
def test_nobody_who_is_stopped_is_better_than_one_who_goes_on(found: dict[int, float], eta: int) -> None:
    one = rung(found, Halving(eta, 1).kept(len(found)))

    def worth(place: int) -> float:
        return -math.inf if math.isnan(found[place]) else found[place]

    worst = min(worth(place) for place in one.survivors)
    assert all(worth(place) <= worst for place in one.stopped)


def test_undefined_values_come_last_and_equals_keep_the_sweeps_order() -> None:
    found = {0: math.nan, 1: -math.inf, 2: -3.0, 3: 1.0, 4: 1.0, 5: math.inf}
    assert rung(found, 3).order == [5, 3, 4, 2, 1, 0]
    assert rung(found, 3).survivors == [3, 4, 5]


def test_a_reason_names_rung_rank_and_cut() -> None:
    one = rung({4: -1.5, 7: math.nan, 9: -12.0}, kept=2, entered=4)
    assert one.reason(7, "elbo", 2000) == (
        "Stopped at rung 1 of 2, after 500 of 2000 steps: rank 3 of 4 by elbo (not defined), and the best 2 went on "
        "(cut at -12.000)."
    )


@pytest.mark.parametrize(
    ("halving", "steps", "rungs"),
    [
        (Halving(3, 500), [2000], (500, 1500)),
        (Halving(3, 500), [1500, 100], (500,)),
        (Halving(2, 1), [8], (1, 2, 4)),
        (Halving(3, 500), [500], ()),
    ],
)
def test_rungs_stand_below_the_last_step(halving: Halving, steps: list[int], rungs: tuple[int, ...]) -> None:
    assert halving.rungs(steps) == rungs


def test_expected_steps_by_hand() -> None:
    # 9 take 500, 3 take 1000 more, 1 takes 500 more; one of 100 steps never meets a rung.
    assert Halving(3, 500).expected_steps([2000] * 9) == 9 * 500 + 3 * 1000 + 500
    assert Halving(3, 500).expected_steps([2000] * 9 + [100]) == 9 * 500 + 100 + 3 * 1000 + 500


def test_a_course_tells_how_many_enter_and_go_on() -> None:
    assert Halving(3, 500).course([2000] * 9 + [100]) == [
        {"rung": 1, "steps": 500, "entered": 9, "kept": 3},
        {"rung": 2, "steps": 1500, "entered": 3, "kept": 1},
    ]


def test_a_spec_says_so(write: Callable[[str], Path], catalogue: Catalogue, german_credit: str) -> None:
    spec = load_spec(write(german_credit + "halving: {eta: 4, min_steps: 250}\n"))
    configurations = resolve(spec, catalogue)
    assert halving_of(spec, configurations) == Halving(4, 250)
    assert make_spec(spec.to_dict()) == spec
    assert halving_of(load_spec(write(german_credit + "halving: {}\n")), configurations) == Halving(3, 500)
    assert halving_of(load_spec(write(german_credit)), configurations) is None


def test_a_first_rung_after_the_last_step_is_refused(
    write: Callable[[str], Path], catalogue: Catalogue, german_credit: str
) -> None:
    path = write(german_credit + "halving: {min_steps: 2000}\n")
    spec = load_spec(path)
    with pytest.raises(SpecError, match="no configuration takes more than 2000; lower it") as caught:
        halving_of(spec, resolve(spec, catalogue))
    assert (caught.value.path, caught.value.key) == (str(path), "halving.min_steps")
    assert caught.value.allowed == ("a whole number, at least 1 and at most 1999",)
