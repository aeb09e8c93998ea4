from __future__ import annotations

import math

import numpy as np
import pytest

from vi_dist.evaluation.evaluate import Evaluation
from vi_dist.evaluation.moments import Distance, distance, moments
from vi_dist.evaluation.verdict import AS_IT_STANDS, DISTRUST, NOT_JUDGED, REWEIGHT, TRUSTWORTHY, verdict

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


@pytest.mark.parametrize("samples", [1, 2, 100, 1024, 4095])
def test_fewer_draws_than_the_thresholds_were_tuned_with_give_no_verdict(samples: int) -> None:
    """Two draws of a guide whose sds are half of the posterior's have a k-hat and a gap that look good."""
    for change in ({}, {"khat": 1.2}, {"iw_elbo": -9.0}):
        found = verdict(Evaluation(**{**vars(GOOD), **change, "samples": samples}), [NEAR])
        assert found.word == NOT_JUDGED
        assert f"took {samples:,} draws" in found.sentence and "{samples: 4096}" in found.sentence
    stopped = verdict(Evaluation(**{**vars(GOOD), "samples": samples}), [], "", "stopped after 250 steps")
    assert "take more steps (an evaluation at a rung has fewer draws)" in stopped.sentence


@pytest.mark.parametrize("unfinished", ["not converged", "stopped after 200 steps"])
@pytest.mark.parametrize(
    ("change", "others", "word"),
    [
        ({}, [NEAR], AS_IT_STANDS),
        ({"khat": 1.2, "iw_elbo": -9.99}, [], AS_IT_STANDS),
        ({"iw_elbo": -9.0}, [NEAR], DISTRUST),
        ({}, [NEAR, FAR], DISTRUST),
        ({"khat": 0.71}, [NEAR], DISTRUST),
    ],
)
def test_an_unfinished_fit_is_headed_so_and_wants_steps_before_a_richer_guide(
    unfinished: str, change: dict[str, float], others: list[Distance], word: str
) -> None:
    found = verdict(Evaluation(**{**vars(GOOD), **change}), others, "Ended somehow.", unfinished)
    assert found.word == word
    assert unfinished in found.sentence and "take more steps" in found.sentence
    steps, richer = found.sentence.find("take more steps"), found.sentence.find("richer guide")
    assert richer == -1 or steps < richer
    assert found.reasons[-1] == "Ended somehow."


@pytest.mark.parametrize(("samples", "least"), [(4096, 400), (40960, 4000)])
def test_weights_that_few_draws_carry_are_not_usable_whatever_k_hat_says(samples: int, least: int) -> None:
    near = {**vars(GOOD), "iw_elbo": -9.4, "khat": 0.5, "samples": samples}
    assert verdict(Evaluation(**{**near, "ess": least + 1.0})).word == REWEIGHT
    found = verdict(Evaluation(**{**near, "ess": least - 1.0}))
    assert found.word == DISTRUST
    assert f"are worth {least - 1} draws of the posterior (at least {least:,} are needed)" in found.sentence
    assert any("is 0.10 of the number of draws (threshold 0.10)" in reason for reason in found.reasons)


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
