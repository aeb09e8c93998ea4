"""What can be said of a winner that was chosen without a reference: in one word, one sentence, and with reasons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vi_dist.evaluation.evaluate import Evaluation
from vi_dist.evaluation.moments import Distance, or_infinite
from vi_dist.evaluation.pareto import khat_threshold

TRUSTWORTHY, REWEIGHT, DISTRUST = "trustworthy", "usable after importance weighting", "not to be trusted"

# Thresholds tuned on the configurations of fourteen posteriors, one left out at a time, so that none is called
# trustworthy whose means or sds are off by more than 0.2 standard deviations (benchmarks/trial_thresholds.py).
# Largest gap between importance-weighted bound and ELBO, in nats, of a guide whose draws are taken as they are.
GOOD_GAP = 0.1
# Up to this gap k-hat may be anything: a divergence KL(q|p) of so little moves no mean by more than sqrt(2 * gap)
# standard deviations, and k-hat, which knows no scale, then sees the tail of weights that are all but equal.
SMALL_GAP = 0.02
# Largest distance, in standard deviations, between the winner and the other good configurations.
GOOD_AGREEMENT = 0.2


@dataclass(frozen=True)
class Verdict:
    """Whether to trust an approximation.

    Attributes:
        word: `TRUSTWORTHY`, `REWEIGHT` or `DISTRUST`.
        sentence: the verdict, with the main reason.
        reasons: everything that was looked at, a sentence each.
    """

    word: str
    sentence: str
    reasons: tuple[str, ...]


def verdict(found: Evaluation, others: Sequence[Distance] = (), ending: str = "") -> Verdict:
    """Judge a winner by its evaluation and by its distance to the other good configurations (seeds among them).

    A guide without density cannot be judged, and is not to be trusted. `ending`: how its training ended, a sentence
    among the reasons; a guide is judged by what it is, converged or not.
    """
    if math.isnan(found.elbo):
        return Verdict(DISTRUST, "Not to be trusted: a point estimate says nothing of uncertainty.", ())
    gap = found.iw_elbo - found.elbo
    if not math.isfinite(gap) or math.isnan(found.khat):
        what = f"an ELBO of {found.elbo:.3f} and a bound of {found.iw_elbo:.3f}"
        return Verdict(DISTRUST, f"Not to be trusted: some draws have no log weight ({what}).", ())
    threshold = khat_threshold(found.samples)
    reasons = [
        f"k-hat of {found.samples} draws is {_number(found.khat)} (threshold {threshold:.2f}).",
        f"The ELBO is {found.elbo:.3f} ± {found.elbo_se:.3f}, {gap:.3f} below the importance-weighted bound.",
    ]
    apart = max((or_infinite(value) for one in others for value in (one.mean, one.sd)), default=math.nan)
    if others:
        reasons.append(
            f"The {len(others)} next best configurations are at most {apart:.2f} standard deviations (RMS) away "
            "in means and sds."
        )
    else:
        reasons.append("No other configuration came close enough to compare it with.")
    reasons += [ending] if ending else []
    return Verdict(*_judged(found.khat, gap, apart, threshold), tuple(reasons))


def _judged(khat: float, gap: float, apart: float, threshold: float) -> tuple[str, str]:
    """The word and the sentence; NaN for `apart` means that nothing else came close."""
    reliable, differs = khat <= threshold, apart > GOOD_AGREEMENT
    if not reliable and not gap <= SMALL_GAP:
        return DISTRUST, (
            f"Not to be trusted: k-hat {_number(khat)} exceeds {threshold:.2f}, so the guide misses mass of the "
            "posterior that even importance weights cannot restore; try a richer guide family."
        )
    if not reliable and differs:
        return DISTRUST, (
            f"Not to be trusted: k-hat {_number(khat)} exceeds {threshold:.2f} and the next best configurations differ "
            f"from it by {apart:.2f} standard deviations."
        )
    if gap > GOOD_GAP:
        return REWEIGHT, (
            f"Usable after importance weighting: a gap of {gap:.3f} nats says that the guide is near but not equal to "
            f"the posterior, and k-hat {_number(khat)} that weights can make up for it."
        )
    if differs:
        return REWEIGHT, (
            f"Usable after importance weighting: the next best configurations differ from it by {apart:.2f} standard "
            "deviations."
        )
    agree = (
        ""
        if math.isnan(apart)
        else f", and the next best configurations within {apart:.2f} standard deviations"
    )
    tail = f"k-hat {_number(khat)}" if reliable else f"though k-hat is {_number(khat)}"
    below = f"the ELBO {gap:.3f} nats below the importance-weighted bound"
    parts = f"{tail}, {below}" if reliable else f"{below}{agree}, {tail}, which means little at such a gap"
    return TRUSTWORTHY, f"Trustworthy: {parts}{agree if reliable else ''}."


def _number(khat: float) -> str:
    return "-inf (constant weights)" if khat == -math.inf else f"{khat:.2f}"
