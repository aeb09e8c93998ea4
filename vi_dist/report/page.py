"""A sweep as one HTML file that needs nothing else: no network, no scripts, fine on paper and in the dark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import yaml
from matplotlib.figure import Figure

from vi_dist.evaluation.verdict import AS_IT_STANDS, DISTRUST, NOT_JUDGED, REWEIGHT, TRUSTWORTHY
from vi_dist.report.contenders import CONTENDERS
from vi_dist.report.curves_figure import curves_figure
from vi_dist.report.findings import Findings
from vi_dist.report.html_table import leaderboard_table
from vi_dist.report.hyperparameters_figure import hyperparameters_figure
from vi_dist.report.khat_figure import khat_figure
from vi_dist.report.leaderboard import best, counts, failures, not_asked, unevaluated, unranked
from vi_dist.report.marginals_figure import marginals_figure
from vi_dist.report.page_style import STYLE
from vi_dist.report.pairs_figure import pairs_figure
from vi_dist.report.palette import css, svg
from vi_dist.report.rungs import lines
from vi_dist.report.sweep_directory import read_rungs
from vi_dist.report.tried_table import tried_table
from vi_dist.tracking.environment import without_credentials

_LEADERBOARD = (
    "Best first. Every configuration is evaluated on the same noise, so ELBOs compare whatever divergence they were "
    "trained on; two that differ by less than a few standard errors (± se) are equal. The gap is how far the "
    "importance-weighted bound lies above the ELBO, in nats: near zero for a guide that is near the posterior."
)
_TRIED = (
    "The best of each guide with each divergence, by the sweep's objective, and in parentheses the number of "
    "configurations."
)
_TONES = {
    TRUSTWORTHY: "good",
    AS_IT_STANDS: "warn",
    REWEIGHT: "warn",
    DISTRUST: "bad",
    NOT_JUDGED: "warn",
}


@dataclass(frozen=True)
class _Section:
    """A figure with its heading, how to read it, and what it says to those who do not see it."""

    heading: str
    reading: str
    draw: Callable[[Findings], Figure]


_SECTIONS = (
    _Section(
        "How they converged",
        "Evidence lower bound (ELBO) of the guide at each step; higher is better. A curve that still rises wants more "
        "steps; one that is flat may hide a guide that drifts, which the column converged knows. Coloured: the best "
        f"configuration of each guide and divergence, of the best {CONTENDERS} where there are more, as the mean over "
        "its seeds with a band of one standard deviation. Grey: all others.",
        curves_figure,
    ),
    _Section(
        "What mattered",
        "What the sweep is ranked by, of every configuration, against each hyperparameter; bars are medians, "
        "triangles lie below the axis. The percentage is the share of the variance of ranks that a hyperparameter "
        "accounts for by itself, numbers cut into five groups, less what chance would (adjusted R squared).",
        hyperparameters_figure,
    ),
    _Section(
        "Whom to trust",
        "The gap is how far a guide's ELBO lies below its importance-weighted bound; Pareto k-hat says whether the "
        "importance weights can be relied on. Left of the upright line and below the other the draws can be taken as "
        "they are, right of it after importance weighting; high up the guide misses mass of the posterior. What is "
        "far off stands at the edge.",
        khat_figure,
    ),
    _Section(
        "What they say about the posterior",
        "Marginal densities of the same approximations as in colour above, laid over one another. Where curves lie "
        "together the choice does not matter; a narrower curve claims more certainty. Of many quantities those are "
        "shown on which the approximations differ most.",
        marginals_figure,
    ),
    _Section(
        "The winner's dependences",
        "Joint densities of the winner, for the quantities that depend most on one another: the contours hold 50% and "
        "90% of the draws. A slanted contour is a correlation, which a mean-field guide cannot have.",
        pairs_figure,
    ),
)


def page(findings: Findings) -> str:
    """The report on a sweep, or on the configurations that were picked from it."""
    name = escape(str(findings.spec.get("name", findings.directory.name)))
    what = "chosen configurations" if findings.picked else "sweep"
    parts = [
        f"<h1>{name} <small>{what}</small></h1>",
        f'<p class="muted">{escape(_about(findings))}</p>',
        _verdict(findings),
        f'<h2>Leaderboard</h2><p class="reading">{_LEADERBOARD}</p>',
        leaderboard_table(findings),
        *(f'<p class="muted">{escape(line)}</p>' for line in _remarks(findings)),
        ""
        if findings.picked
        else f'<h2>What was tried</h2><p class="reading">{_TRIED}</p>{tried_table(findings)}',
        *(_figure(findings, section) for section in _SECTIONS),
        _spec(findings),
    ]
    body = "\n".join(parts)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name}: {what}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>{css()}{STYLE}</style></head>
<body><main>
{body}
</main></body></html>
"""


def _about(findings: Findings) -> str:
    """What was compared, in a line."""
    spec, frame = findings.spec, findings.frame
    parts = [
        counts(frame),
        f"{spec.get('steps', '?')} steps",
        f"{spec.get('num_samples', '?')} draws per step",
    ]
    told = [] if "converged" not in frame else frame["converged"].tolist()
    yes, no = told.count("yes"), told.count("no")
    if yes + no:
        parts.append(f"{yes} of {yes + no} converged")
    return f"{', '.join(parts)}. {findings.directory.name}"


def _verdict(findings: Findings) -> str:
    """The winner and whether to trust it."""
    row, found = best(findings.frame), findings.verdict
    if row is None:
        reasons = findings.frame["reason"].value_counts().head(3)
        items = "".join(f"<li>{escape(str(reason))} ({count})</li>" for reason, count in reasons.items())
        what = unranked(findings.frame)
        return f'<section class="verdict bad"><p>{escape(what[0].upper() + what[1:])}.</p><ul>{items}</ul></section>'
    winner = (
        f"<p>Best: <b>{escape(str(row['name']))}</b>, ELBO {row['elbo']:.3f} ± {row['elbo_se']:.3f} nats.</p>"
    )
    if found is None:
        return (
            f'<section class="verdict warn">{winner}<p>No verdict: its draws are not to be had.</p></section>'
        )
    items = "".join(f"<li>{escape(reason)}</li>" for reason in found.reasons)
    tone = _TONES.get(found.word, "warn")
    return (
        f'<section class="verdict {tone}"><p class="word">{escape(found.sentence)}</p>{winner}'
        f"<ul>{items}</ul></section>"
    )


def _remarks(findings: Findings) -> list[str]:
    """Why rows failed, what an interrupted sweep has no numbers of, and what stopping the weakest early saved."""
    return [
        *failures(findings.frame),
        *unevaluated(findings.frame),
        *not_asked(findings.frame, findings.spec.get("configurations")),
        *lines(read_rungs(findings.directory), findings.frame),
    ]


def _figure(findings: Findings, section: _Section) -> str:
    """A figure with the sentence that says how to read it, or why it is not there."""
    heading = f"<h2>{escape(section.heading)}</h2>"
    try:
        drawn = svg(section.draw(findings), f"{section.heading}. {section.reading}")
    except LookupError as error:
        return f'<section>{heading}<p class="muted">Left out: {escape(str(error.args[0]))}.</p></section>'
    return f'<section>{heading}<p class="reading">{escape(section.reading)}</p><figure>{drawn}</figure></section>'


def _spec(findings: Findings) -> str:
    """The spec, to run it again."""
    spec = dict(findings.spec)
    if "tracking_uri" in spec:
        spec["tracking_uri"] = without_credentials(str(spec["tracking_uri"]))
    text = yaml.safe_dump(spec, sort_keys=False, allow_unicode=True, default_flow_style=None)
    folded = f"<summary>every key, defaults included</summary><pre>{escape(text)}</pre>"
    return f"<h2>The spec</h2><details>{folded}</details>"
