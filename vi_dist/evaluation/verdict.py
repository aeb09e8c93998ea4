"""What can be said of a winner that was chosen without a reference: in one word, one sentence, and with reasons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vi_dist.evaluation.evaluate import Evaluation
from vi_dist.evaluation.moments import Distance, or_infinite
from vi_dist.evaluation.pareto import khat_threshold

TRUSTWORTHY, AS_IT_STANDS = "trustworthy", "trustworthy as it stands"
REWEIGHT, DISTRUST = "usable after importance weighting", "not to be trusted"
NOT_JUDGED = "not judged"

TRUST = {TRUSTWORTHY: 3, AS_IT_STANDS: 2, REWEIGHT: 1, DISTRUST: 0, NOT_JUDGED: 0}
"""How much each word says in favour of an approximation; larger is more."""

# Thresholds tuned on the configurations of fourteen posteriors, one left out at a time, so that none is called
# trustworthy whose means or sds are off by more than 0.2 standard deviations (benchmarks/trial_thresholds.py).
# Draws of the evaluations that they were tuned on; fewer give no verdict.
DRAWS = 4096
# Largest gap between importance-weighted bound and ELBO, in nats, of a guide whose draws are taken as they are.
GOOD_GAP = 0.1
# Up to this gap k-hat may be anything: a divergence KL(q|p) of so little moves no mean by more than sqrt(2 * gap)
# standard deviations, and k-hat, which knows no scale, then sees the tail of weights that are all but equal.
SMALL_GAP = 0.02
# Largest distance, in standard deviations, between the winner and the other good configurations.
GOOD_AGREEMENT = 0.2
# Least effective sample size of `DRAWS` weighted draws: the Monte Carlo error of a weighted mean is then at most
# 1 / sqrt(400) = 0.05 standard deviations, and sds and quantiles are steady (Vehtari et al., Bayesian Analysis 2021,
# section 4.3, ask for as many). k-hat is about the tail's shape alone and may be small where few draws carry all.
LEAST_ESS = 400


@dataclass(frozen=True)
class Verdict:
    """Whether to trust an approximation.

    Attributes:
        word: `TRUSTWORTHY`, `AS_IT_STANDS`, `REWEIGHT`, `DISTRUST` or `NOT_JUDGED`.
        sentence: the verdict, with the main reason.
        reasons: everything that was looked at, a sentence each.
    """

    word: str
    sentence: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Evidence:
    """What the word depends on.

    Attributes:
        gap: importance-weighted bound less ELBO, nats.
        apart: largest distance to the next best configurations, sds; NaN where none came close.
        unfinished: what kept the training from its end; empty if nothing did.
    """

    found: Evaluation
    gap: float
    apart: float
    unfinished: str

    @property
    def steady(self) -> bool:
        """Whether enough draws carry the weights; True where the effective sample size is not known."""
        return not self.found.ess / self.found.samples < LEAST_ESS / DRAWS

    @property
    def reliable(self) -> bool:
        """Whether importance weights can be relied on."""
        return self.found.khat <= khat_threshold(self.found.samples) and self.steady

    @property
    def differs(self) -> bool:
        return self.apart > GOOD_AGREEMENT

    @property
    def weights(self) -> str:
        """What is wrong with the weights, if anything is, in words."""
        if not self.steady:
            return (
                f"the weights of {self.found.samples:,} draws are worth {self.found.ess:.0f} draws of the posterior "
                f"(at least {LEAST_ESS * self.found.samples / DRAWS:,.0f} are needed)"
            )
        return f"k-hat {_number(self.found.khat)} exceeds {khat_threshold(self.found.samples):.2f}"

    @property
    def cure(self) -> str:
        """What to try: more steps before a richer guide."""
        if self.unfinished:
            return f"the fit is {self.unfinished}, so take more steps before you try a richer guide family"
        return "try a richer guide family"


def verdict(
    found: Evaluation, others: Sequence[Distance] = (), ending: str = "", unfinished: str = ""
) -> Verdict:
    """Judge a winner by its evaluation, by its distance to the other good configurations, and by its training's end.

    A guide without density cannot be judged, and is not to be trusted. Fewer draws than `DRAWS` give no verdict.

    Args:
        found: the winner's evaluation.
        others: from the winner to the next best configurations, seeds among them.
        ending: how its training ended, a sentence among the reasons.
        unfinished: what kept its training from its end (``not converged``, ``stopped after 200 steps``); empty if
            nothing did. Weights are not trusted to repair such a guide: they cannot restore what it has not reached.
    """
    if math.isnan(found.elbo):
        return Verdict(DISTRUST, "Not to be trusted: a point estimate says nothing of uncertainty.", ())
    gap = found.iw_elbo - found.elbo
    if not math.isfinite(gap) or math.isnan(found.khat):
        what = f"an ELBO of {found.elbo:.3f} and a bound of {found.iw_elbo:.3f}"
        return Verdict(DISTRUST, f"Not to be trusted: some draws have no log weight ({what}).", ())
    apart = max((or_infinite(value) for one in others for value in (one.mean, one.sd)), default=math.nan)
    evidence = _Evidence(found, gap, apart, unfinished)
    reasons = (*_reasons(evidence, len(others)), *([ending] if ending else []))
    if found.samples < DRAWS:
        return Verdict(NOT_JUDGED, _too_few(found.samples, unfinished), reasons)
    return Verdict(*_judged(evidence), reasons)


def _reasons(evidence: _Evidence, compared: int) -> list[str]:
    """What was looked at, a sentence each."""
    found = evidence.found
    threshold = khat_threshold(found.samples) if found.samples > 1 else math.nan
    reasons = [
        f"k-hat of {found.samples} draws is {_number(found.khat)} (threshold {threshold:.2f}).",
        f"The ELBO is {found.elbo:.3f} ± {found.elbo_se:.3f}, {evidence.gap:.3f} below the importance-weighted bound.",
    ]
    if not math.isnan(found.ess):
        reasons.append(
            f"The effective sample size of the weights is {found.ess / found.samples:.2f} of the number of draws "
            f"(threshold {LEAST_ESS / DRAWS:.2f})."
        )
    if compared:
        reasons.append(
            f"The {compared} next best configurations are at most {evidence.apart:.2f} standard deviations (RMS) "
            "away in means and sds."
        )
    else:
        reasons.append("No other configuration came close enough to compare it with.")
    return reasons


def _too_few(samples: int, unfinished: str) -> str:
    """The sentence on an evaluation of too few draws."""
    cure = f"write evaluation: {{samples: {DRAWS}}} in the spec"
    if unfinished:
        cure += ", and take more steps (an evaluation at a rung has fewer draws)"
    though = f" of a fit that is {unfinished}" if unfinished else ""
    return (
        f"Not judged: the evaluation{though} took {samples:,} draws, and the verdict's thresholds hold from {DRAWS:,} "
        f"on; for a verdict {cure}."
    )


def _judged(evidence: _Evidence) -> tuple[str, str]:
    """The word and the sentence."""
    if not evidence.reliable and not evidence.gap <= SMALL_GAP:
        return DISTRUST, (
            f"Not to be trusted: {evidence.weights}, so the guide misses mass of the posterior that even importance "
            f"weights cannot restore; {evidence.cure}."
        )
    if not evidence.reliable and evidence.differs:
        return DISTRUST, (
            f"Not to be trusted: {evidence.weights} and the next best configurations differ from it by "
            f"{evidence.apart:.2f} standard deviations; {evidence.cure}."
        )
    if evidence.gap > GOOD_GAP or evidence.differs:
        return _to_be_weighted(evidence)
    return _trusted(evidence)


def _to_be_weighted(evidence: _Evidence) -> tuple[str, str]:
    """Of a guide that is near but not equal to the posterior, with weights that can be relied on."""
    khat = _number(evidence.found.khat)
    if evidence.gap > GOOD_GAP:
        what = f"a gap of {evidence.gap:.3f} nats says that the guide is near but not equal to the posterior"
    else:
        what = f"the next best configurations differ from it by {evidence.apart:.2f} standard deviations"
    if evidence.unfinished:
        return DISTRUST, (
            f"Not to be trusted: {what}, and importance weights cannot restore what a fit has not reached yet; "
            f"{evidence.cure}."
        )
    if evidence.gap > GOOD_GAP:
        what += f", and k-hat {khat} that weights can make up for it"
    return REWEIGHT, f"Usable after importance weighting: {what}."


def _trusted(evidence: _Evidence) -> tuple[str, str]:
    """Of a guide whose draws can be taken as they are."""
    khat = _number(evidence.found.khat)
    agree = (
        ""
        if math.isnan(evidence.apart)
        else f", and the next best configurations within {evidence.apart:.2f} standard deviations"
    )
    below = f"the ELBO {evidence.gap:.3f} nats below the importance-weighted bound"
    parts = (
        f"k-hat {khat}, {below}{agree}"
        if evidence.reliable
        else f"{below}{agree}, though k-hat is {khat}, which means little at such a gap"
    )
    if evidence.unfinished:
        return AS_IT_STANDS, (
            f"Trustworthy as it stands, though {evidence.unfinished}: {parts}; take more steps and see whether it "
            "stays there."
        )
    return TRUSTWORTHY, f"Trustworthy: {parts}."


def _number(khat: float) -> str:
    return "-inf (constant weights)" if khat == -math.inf else f"{khat:.2f}"
