from __future__ import annotations

import math

import numpy as np
import pytest

from vi_dist.evaluation.evaluate import Evaluation
from vi_dist.evaluation.moments import Distance, distance, moments
from vi_dist.evaluation.verdict import DISTRUST, REWEIGHT, TRUSTWORTHY, verdict

GOOD = Evaluation(elbo=-10.0, elbo_se=0.01, iw_elbo=-9.95, khat=0.2, samples=4096)
NEAR, FAR = Distance(0.02, 0.03, "mu"), Distance(0.4, 0.1, "tau")


@pytest.mark.parametrize(
    ("change", "others", "word"),
    [
        ({}, [NEAR], TRUSTWORTHY),
        ({"khat": -math.inf}, [], TRUSTWORTHY),
        ({}, [NEAR, FAR], REWEIGHT),
        ({"khat": 0.6}, [NEAR], TRUSTWORTHY),
        ({"iw_elbo": -9.0}, [NEAR], REWEIGHT),
        ({"khat": 1.2, "iw_elbo": -9.99}, [NEAR], TRUSTWORTHY),
        ({"khat": 1.2, "iw_elbo": -9.99}, [NEAR, FAR], DISTRUST),
        ({"khat": 0.71}, [NEAR], DISTRUST),
        ({"khat": math.nan}, [NEAR], DISTRUST),
        ({"elbo": math.nan}, [], DISTRUST),
        ({"elbo": -math.inf}, [], DISTRUST),
        ({"iw_elbo": math.nan}, [NEAR], DISTRUST),
        ({"khat": math.nan, "iw_elbo": -9.99}, [NEAR], DISTRUST),
        ({}, [NEAR, Distance(math.nan, 0.9, "tau"), NEAR], REWEIGHT),
        ({}, [Distance(0.1, math.nan, "tau"), NEAR], REWEIGHT),
    ],
)
def test_the_word_follows_khat_gap_and_agreement(
    change: dict[str, float], others: list[Distance], word: str
) -> None:
    found = verdict(Evaluation(**{**vars(GOOD), **change}), others)
    assert found.word == word
    assert found.sentence.lower().startswith(word)


def test_fewer_draws_lower_the_threshold() -> None:
    # 1 - 1 / log10(100) = 0.5
    assert verdict(Evaluation(**{**vars(GOOD), "khat": 0.55, "samples": 100})).word == DISTRUST


def test_moments_name_elements_row_major() -> None:
    draws = np.arange(12.0).reshape(3, 2, 2)
    found = moments({"m": draws, "s": np.array([1.0, 2.0, 3.0])})
    assert list(found) == ["m[0,0]", "m[0,1]", "m[1,0]", "m[1,1]", "s"]
    assert found["m[1,0]"] == (pytest.approx(6.0), pytest.approx(4.0))
    assert found["s"] == (pytest.approx(2.0), pytest.approx(1.0))


def test_only_a_point_estimate_is_called_one() -> None:
    of_point, of_wreck = (
        verdict(Evaluation(elbo, 0.0, elbo, math.nan, 64)) for elbo in (math.nan, -math.inf)
    )
    assert "point estimate" in of_point.sentence
    assert "some draws have no log weight" in of_wreck.sentence


def test_moments_that_are_no_numbers_are_infinitely_far_apart() -> None:
    draws = np.array([1.0, np.inf, 2.0, 3.0])
    found = moments({"a": draws, "b": np.arange(4.0)})
    other = {"a": (50.0, 1.0), "b": found["b"]}
    assert distance(found, other).mean == math.inf
    assert distance(other, found).mean == math.inf


def test_distance_is_in_the_references_standard_deviations() -> None:
    found = distance({"a": (1.0, 1.0), "b": (0.0, 3.0)}, {"a": (0.0, 2.0), "b": (0.0, 2.0), "c": (0.0, 1.0)})
    assert found.mean == pytest.approx(math.sqrt(0.5**2 / 2))
    assert found.sd == pytest.approx(math.sqrt((0.5**2 + 0.5**2) / 2))
    assert found.worst == "a"
    with pytest.raises(ValueError, match="of which the fit has none"):
        distance({"a": (0.0, 1.0)}, {"z": (0.0, 1.0)})
