from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vi_dist.sweep.configuration import Choice, Configuration
from vi_dist.sweep.plan import WIDEST, Pack, plan, program, width_class

guides = st.sampled_from(
    [Choice("mean_field"), Choice("low_rank", (("rank", 2),)), Choice("low_rank", (("rank", 4),))]
)
configurations = st.builds(
    Configuration,
    guide=guides,
    divergence=st.sampled_from([Choice("kl_reverse"), Choice("amari", (("alpha", 0.5),))]),
    estimator=st.sampled_from([Choice("reparam"), Choice("score")]),
    optimizer=st.sampled_from(
        [Choice("sgd"), Choice("adam", (("beta1", 0.9),)), Choice("adam", (("beta1", 0.8),))]
    ),
    schedule=st.sampled_from([Choice("constant"), Choice("cosine")]),
    learning_rate=st.just(0.01),
    num_samples=st.sampled_from([1, 8]),
    steps=st.sampled_from([10, 20]),
    seed=st.integers(0, 99),
    dtype=st.just("float32"),
)
lists = st.lists(configurations, max_size=200)
sizes = st.integers(1, 150)


@given(lists, sizes)
def test_every_configuration_stands_in_one_pack_with_its_like(found: list[Configuration], size: int) -> None:
    packs = plan(found, size)
    assert sorted(place for pack in packs for place in pack.configurations) == list(range(len(found)))
    assert [pack.index for pack in packs] == list(range(len(packs)))
    for pack in packs:
        assert len({program(found[place]) for place in pack.configurations}) == 1
        assert list(pack.configurations) == sorted(pack.configurations)
        assert 1 <= len(pack.configurations) <= size
        like = [
            one
            for one in packs
            if program(found[one.configurations[0]]) == program(found[pack.configurations[0]])
        ]
        assert pack.width == width_class(max(len(one.configurations) for one in like))


@given(lists, lists, sizes)
def test_appending_another_program_changes_no_pack(
    found: list[Configuration], more: list[Configuration], size: int
) -> None:
    others = [replace(configuration, guide=Choice("full_rank")) for configuration in more]
    packs = plan(found, size)
    assert plan(found + others, size)[: len(packs)] == packs


@given(lists)
def test_a_plan_has_as_few_packs_as_its_programs_allow(found: list[Configuration]) -> None:
    programs = [program(configuration) for configuration in found]
    assert len(plan(found)) == sum(-(-programs.count(one) // WIDEST) for one in set(programs))


@given(st.integers(1, 1000), sizes)
def test_hardly_a_column_steps_for_nothing(count: int, size: int) -> None:
    a = Choice("a")
    base = Configuration(a, a, a, a, a, learning_rate=0.1, num_samples=1, steps=1, seed=0, dtype="float32")
    packs = plan([replace(base, seed=seed) for seed in range(count)], size)
    sizes = [len(pack.configurations) for pack in packs]
    assert sum(pack.width - len(pack.configurations) for pack in packs) <= 15 * len(packs) + len(packs) - 1
    assert max(sizes) - min(sizes) < len(packs)


@given(lists)
def test_a_plan_travels_as_json(found: list[Configuration]) -> None:
    packs = plan(found)
    assert [
        Pack.from_dict(data) for data in json.loads(json.dumps([pack.to_dict() for pack in packs]))
    ] == packs


@pytest.mark.parametrize(
    ("columns", "width"),
    [(1, 1), (2, 8), (8, 8), (9, 16), (17, 32), (33, 48), (64, 64), (65, 80), (128, 128), (129, 144)],
)
def test_width_classes(columns: int, width: int) -> None:
    assert width_class(columns) == width


def test_one_configuration_a_pack_is_the_plain_case() -> None:
    a = Choice("a")
    base = Configuration(a, a, a, a, a, learning_rate=0.1, num_samples=1, steps=1, seed=0, dtype="float32")
    packs = plan([replace(base, seed=seed) for seed in range(3)], 1)
    assert packs == [Pack(0, 1, (0,)), Pack(1, 1, (1,)), Pack(2, 1, (2,))]
