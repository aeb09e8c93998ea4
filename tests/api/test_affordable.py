"""What no machine can hold is refused before it is made; what it would take is counted from arguments alone."""

from __future__ import annotations

import math

import pytest
import torch

from vi_dist.api.affordable import check_affordable, check_guide, guide_numbers
from vi_dist.cluster.columns import family
from vi_dist.errors import SpecError
from vi_dist.sweep.configuration import Choice, Configuration
from vi_dist.sweep.plan import Pack
from vi_dist.vi.noise import NoiseSite, NoiseSpace

GUIDES = [
    Choice("mean_field"),
    Choice("full_rank"),
    Choice("low_rank", (("rank", 3),)),
    Choice("student_t", (("full_rank", True),)),
    Choice("mixture", (("components", 4), ("full_rank", True))),
    Choice("mixture", (("components", 4), ("full_rank", False))),
    Choice("realnvp", (("transforms", 3), ("hidden", 32))),
    Choice("maf", (("transforms", 2), ("hidden", 64))),
    Choice("nsf", (("transforms", 2), ("hidden", 32), ("bins", 8))),
]


@pytest.mark.parametrize("guide", GUIDES, ids=str)
def test_the_count_is_near_what_a_guide_has(guide: Choice) -> None:
    size = 40
    made = family(guide, NoiseSpace((NoiseSite("z", size),)))
    there = sum(leaf.numel() for leaf in made.initial(torch.zeros(size)).values())
    assert abs(math.log(guide_numbers(guide, size) / there)) < math.log(2.2)


def test_a_guide_that_fills_all_memory_is_refused() -> None:
    with pytest.raises(SpecError, match="parameters over 1000 coordinates") as caught:
        check_guide(Choice("nsf", (("transforms", 64), ("hidden", 1024), ("bins", 256))), 1000)
    assert caught.value.key == "guide"
    check_guide(Choice("full_rank"), 10_000)


def configuration(**changes: int) -> Configuration:
    choices = {name: Choice("a") for name in ("guide", "divergence", "estimator", "optimizer", "schedule")}
    numbers = {"learning_rate": 0.1, "num_samples": 8, "steps": 10, "seed": 0, "dtype": "float32", **changes}
    return Configuration(**choices, **numbers)  # type: ignore[arg-type]


def test_steps_and_memory_of_all_configurations_are_counted() -> None:
    pack = Pack(0, 80, (0, 1))
    check_affordable([configuration()] * 2, [pack], 1_000_000, 6)
    with pytest.raises(SpecError, match="take fewer steps") as caught:
        check_affordable([configuration(steps=10_000_000)] * 200, [pack], 4, 6)
    assert caught.value.key == "steps"
    with pytest.raises(SpecError, match="GiB") as caught:
        check_affordable([configuration(num_samples=1_000_000)] * 2, [pack], 1000, 6)
    assert caught.value.key == "num_samples"
