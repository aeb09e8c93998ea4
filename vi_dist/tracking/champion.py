"""Who is a registered model's champion: the newest version takes the alias only where it is known to be no worse."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

ALIAS = "champion"
_KEY, _MODEL, _DATA = "vi.configuration", "vi.model", "vi.data"
_VERDICT, _TRUST = "vi.verdict", "vi.trust"
_ELBO, _ERROR = "vi.elbo", "vi.elbo_se"
_COMPLETE = "vi.complete"
# Standard errors of a difference between two ELBOs up to which they are equal.
_NOISE = 2.0


@dataclass(frozen=True)
class Merits:
    """What a version of a registered model is known to be, kept in its tags.

    Attributes:
        key: of its configuration.
        model, data: digests of the model's source and of the data that it is trained on; empty where not known.
        verdict: in a word, and `trust`: how much the word says in favour, larger is more.
        elbo: with its standard error `elbo_se`.
        complete: whether its sweep ran to its end.
    """

    key: str = ""
    model: str = ""
    data: str = ""
    verdict: str = ""
    trust: int = 0
    elbo: float = math.nan
    elbo_se: float = math.nan
    complete: bool = True

    def to_tags(self) -> dict[str, str]:
        """As tags of a model version."""
        return {
            _KEY: self.key,
            _MODEL: self.model,
            _DATA: self.data,
            _VERDICT: self.verdict,
            _TRUST: str(self.trust),
            _ELBO: repr(self.elbo),
            _ERROR: repr(self.elbo_se),
            _COMPLETE: "yes" if self.complete else "no",
        }

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> Merits:
        """Read back from tags; what is missing or no number is not known."""
        return cls(
            tags.get(_KEY, ""),
            tags.get(_MODEL, ""),
            tags.get(_DATA, ""),
            tags.get(_VERDICT, ""),
            int(_number(tags.get(_TRUST, ""), 0)),
            _number(tags.get(_ELBO, ""), math.nan),
            _number(tags.get(_ERROR, ""), math.nan),
            tags.get(_COMPLETE, "yes") == "yes",
        )

    def describe(self) -> str:
        """In one line, for people."""
        elbo = "no ELBO" if math.isnan(self.elbo) else f"ELBO {self.elbo:.3f} ± {self.elbo_se:.3f}"
        ended = "" if self.complete else "; its sweep was interrupted"
        return f"Verdict: {self.verdict or 'none'}. {elbo}{ended}."


def why_it_stays(challenger: Merits, holder: Merits | None) -> str:
    """Why the alias does not move to a challenger, a clause; empty if it does.

    It moves to the winner of a sweep that ran to its end, where nobody holds it, or where the holder is of the same
    model and data, is trusted no more, and fits less well: by more than the noise of both evaluations, or, where the
    challenger is trusted more, no better by more than that.
    """
    if not challenger.complete:
        return "its sweep was interrupted"
    if holder is None:
        return ""
    if not holder.model or not holder.data:
        return "the champion does not say of which model and data it is"
    for name, mine, theirs in (
        ("model", challenger.model, holder.model),
        ("data", challenger.data, holder.data),
    ):
        if mine != theirs:
            other = "another model" if name == "model" else "other data"
            return f"the champion is of {other}"
    if challenger.trust < holder.trust:
        return f"its verdict is {challenger.verdict or 'none'!r} and the champion's {holder.verdict!r}"
    noise = _NOISE * math.hypot(challenger.elbo_se, holder.elbo_se)
    gain = challenger.elbo - holder.elbo
    least = -noise if challenger.trust > holder.trust else noise
    if gain > least or (math.isnan(holder.elbo) and not math.isnan(challenger.elbo)):
        return ""
    return (
        f"its ELBO of {challenger.elbo:.3f} is not above the champion's {holder.elbo:.3f} by more than their noise "
        f"of {noise:.3f}"
    )


def _number(text: str, default: float) -> float:
    try:
        return float(text)
    except ValueError:
        return default
