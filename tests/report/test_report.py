"""A report from a sweep's directory alone: what stands in it, and that it needs nothing else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from vi_dist.cli.main import app
from vi_dist.errors import SpecError
from vi_dist.report.curves_figure import curves_figure
from vi_dist.report.findings import BINS, Findings
from vi_dist.report.hyperparameters_figure import hyperparameters_figure
from vi_dist.report.khat_figure import khat_figure
from vi_dist.report.leaderboard import leaderboard
from vi_dist.report.marginals_figure import marginals_figure, most_different
from vi_dist.report.page import page
from vi_dist.report.pairs_figure import most_dependent, pairs_figure
from vi_dist.report.palette import house_style, svg
from vi_dist.report.tried_table import NOT_TRIED, tried
from vi_dist.vi import saved_guide

FIGURES = [curves_figure, hyperparameters_figure, khat_figure, marginals_figure, pairs_figure]


@pytest.fixture(scope="module")
def findings(swept: Path) -> Findings:
    return Findings.read(swept)


@pytest.fixture(scope="module")
def html(findings: Findings) -> str:
    return page(findings)


class Outline(HTMLParser):
    """What a page refers to, the ids in it, and whether its tags close."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input", "path", "use", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.addresses += [named[name] or "" for name in ("src", "href", "xlink:href") if name in named]
        self.ids += [named["id"] or ""] if "id" in named else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_contenders_are_the_best_of_every_guide_and_divergence_with_their_seeds(
    findings: Findings,
) -> None:
    assert [(one.label, one.key, one.seeds) for one in findings.contenders] == [
        ("full_rank · kl_reverse", "key0", ("key0", "key1")),
        ("full_rank · amari(alpha=0.5)", "key2", ("key2", "key3")),
        ("mean_field · kl_reverse", "key4", ("key4", "key5")),
        ("mean_field · amari(alpha=0.5)", "key6", ("key6", "key7")),
    ]


def test_the_page_holds_verdict_leaderboard_and_five_figures(html: str) -> None:
    assert 'class="verdict warn"' in html and "the next best configurations differ from it" in html
    assert html.count("<figure>") == html.count('role="img"') == len(FIGURES)
    for text in ("full_rank-kl_reverse-lr0.01-s0", "-10.000", "mu[0]", "amari(alpha=0.5)", "(2 seeds)"):
        assert text in html
    assert html.count('<p class="reading">') == len(FIGURES) + 2


def test_the_page_says_which_guides_and_divergences_were_tried_together(
    findings: Findings, html: str
) -> None:
    cells = tried(findings)
    assert cells.loc["full_rank"].tolist() == ["-10.000 (3)", "-10.020 (2)"]
    assert cells.loc["delta"].tolist() == ["1 finished", NOT_TRIED]
    assert list(cells.columns) == ["kl_reverse", "amari(alpha=0.5)"]
    assert html.count(f"<td>{NOT_TRIED}</td>") == 1
    (left_out,) = re.findall(r"Not in this sweep: the guides ([^;]*); the divergences ([^.]*)\.", html)
    guides, divergences = (names.split(", ") for names in left_out)
    assert "mixture" in guides and not {"full_rank", "mean_field", "delta"} & set(guides)
    assert "kl_forward" in divergences and not {"kl_reverse", "amari"} & set(divergences)


def test_marginals_are_of_the_approximations_that_the_curves_show(swept: Path, tmp_path: Path) -> None:
    directory = tmp_path / "five"
    shutil.copytree(swept, directory)
    plan = json.loads((directory / "plan.json").read_text())
    plan["configurations"]["key7"]["divergence"] = "kl_forward"
    (directory / "plan.json").write_text(json.dumps(plan))
    findings = Findings.read(directory)
    shown = [
        [text.get_text().split(" (2")[0] for text in draw(findings).legends[0].get_texts()]
        for draw in (curves_figure, marginals_figure)
    ]
    assert shown[0] == shown[1] == [one.label for one in findings.contenders] and len(shown[0]) == 5


def test_the_page_is_whole_and_needs_nothing_else(html: str) -> None:
    outline = Outline()
    outline.feed(html)
    assert outline.open == []
    assert len(set(outline.ids)) == len(outline.ids)
    assert all(address.startswith("#") for address in outline.addresses)
    assert not re.findall(r"url\((?!#)|@import|<script", html)


def test_what_users_write_is_text_and_passwords_stay_out(html: str) -> None:
    assert "toy &amp; co" in html and "Diverged at step 7 &lt;here&gt;." in html
    assert "secret" not in html


def test_the_same_directory_gives_the_same_figures(findings: Findings) -> None:
    assert svg(khat_figure(findings), "k") == svg(khat_figure(findings), "k")


@pytest.mark.parametrize("draw", FIGURES)
def test_figures_take_their_colours_from_the_page(
    findings: Findings, draw: Callable[[Findings], Figure]
) -> None:
    drawn = svg(draw(findings), 'a "description"')
    assert 'aria-label="a &quot;description&quot;"' in drawn
    left = set(re.findall(r"#[0-9a-fA-F]{6}\b", drawn))
    assert left <= {"#000000", "#ffffff"}, left
    assert "var(--ink)" in drawn and "var(--series0)" in drawn


def test_numbers_between_tags_are_not_cut() -> None:
    with house_style():
        figure = Figure()
        figure.subplots().set_title("0.01536")
    assert "0.01536" in svg(figure, "digits")


def test_curves_are_means_of_the_steps_behind_them(findings: Findings) -> None:
    curves = findings.curves
    assert len(curves) <= BINS and curves.index[-1] == 200
    assert curves["key0"].iloc[0] == -110.0
    behind = curves.index[-2] + 1, curves.index[-1]
    steps = np.arange(behind[0], behind[1] + 1)
    assert curves["key0"].iloc[-1] == pytest.approx(np.mean(-10.0 - 100.0 / steps))
    assert np.isnan(curves["lost"].iloc[-1])


def test_draws_come_from_the_directory_alone_and_are_those_of_the_saved_fit(
    findings: Findings, swept: Path
) -> None:
    expected = saved_guide.draws(swept / "fits" / "key0", 4000)
    found = findings.draw("key0")
    assert found.keys() == expected.keys() == {"mu", "tau", "total"}
    np.testing.assert_array_equal(found["total"], expected["total"])
    np.testing.assert_allclose(found["total"], found["mu"].sum(-1) + 0.25, rtol=1e-5)
    # Another guide through the same map: its own leaves, one point everywhere.
    assert np.ptp(findings.draw("point")["mu"], axis=0).tolist() == [0.0, 0.0]
    with pytest.raises(LookupError, match="did not finish"):
        findings.draw("lost")


def test_chosen_configurations_stand_alone(swept: Path) -> None:
    picked = Findings.read(swept, ["key3", "mean_field-kl_reverse-lr0.01-s0", "1"])
    assert [one.key for one in picked.contenders] == ["key3", "key4", "key0"]
    html = page(picked)
    assert "chosen configurations" in html and "full_rank-amari0.5-lr0.01-s1" in html
    assert "key7" not in html and "mean_field-amari0.5-lr0.01-s1" not in html
    with pytest.raises(SpecError, match="'nobody' is no configuration"):
        Findings.read(swept, ["nobody"])


def test_a_point_among_the_chosen_is_a_line(swept: Path) -> None:
    figure = marginals_figure(Findings.read(swept, ["key0", "point"]))
    line = figure.axes[0].get_lines()[1]
    assert len(set(np.asarray(line.get_xdata()))) == 1


def test_a_report_on_thousands_is_small_and_says_where_the_others_are(swept: Path, tmp_path: Path) -> None:
    directory = tmp_path / "many"
    shutil.copytree(swept, directory)
    few = pd.read_parquet(directory / "leaderboard.parquet")
    first = few[few["status"] == "finished"]
    many = pd.concat(
        [first.assign(elbo=first["elbo"] - 0.01 * k, seed=k % 5) for k in range(5000 // len(first))]
    )
    many = many.sort_values("elbo", ascending=False, ignore_index=True)
    rates = np.random.default_rng(0).uniform(0.001, 0.1, len(many))
    keys = [f"many{k}" for k in range(len(many))]
    many = many.assign(rank=range(1, len(many) + 1), key=keys, name=keys, learning_rate=rates)
    many.to_parquet(directory / "leaderboard.parquet")
    html = page(Findings.read(directory))
    assert len(html.encode()) < 2_000_000
    assert f"the best 1000 of {len(many)} configurations" in html and "leaderboard.parquet" in html
    assert '"many999"' in html and '"many1000"' not in html
    figures = (khat_figure(Findings.read(directory)), hyperparameters_figure(Findings.read(directory)))
    for figure, most in zip(figures, (1000, 4000), strict=True):
        points = [len(dots.get_offsets()) for axes in figure.axes for dots in axes.collections]
        assert 500 < sum(points) <= most + 10


def test_a_sweep_in_which_nothing_finished_says_so(swept: Path, tmp_path: Path) -> None:
    directory = tmp_path / "sad"
    shutil.copytree(swept, directory)
    shutil.rmtree(directory / "fits")
    frame = pd.read_parquet(directory / "leaderboard.parquet")
    frame["status"], frame["elbo"] = "diverged", np.nan
    frame.to_parquet(directory / "leaderboard.parquet")
    html = page(Findings.read(directory))
    assert "No configuration finished." in html and "All steps done. (9)" in html
    assert html.count("Left out:") == 4 and html.count("<figure>") == 1


def test_the_report_on_an_evaluation_of_two_draws_is_whole(swept: Path, tmp_path: Path) -> None:
    """The threshold of so few draws lies far below the axes of k-hat, whose values are infinite."""
    directory = tmp_path / "two"
    shutil.copytree(swept, directory)
    spec = (directory / "spec.resolved.yaml").read_text().replace("samples: 4096", "samples: 2")
    (directory / "spec.resolved.yaml").write_text(spec)
    frame = pd.read_parquet(directory / "leaderboard.parquet")
    frame["khat"] = frame["khat"].where(frame["khat"].isna(), np.inf)
    frame.to_parquet(directory / "leaderboard.parquet")
    assert "Not judged: the evaluation took 2 draws" in page(Findings.read(directory))


def test_a_sweep_in_which_nothing_could_be_ranked_says_so_and_judges_nobody(
    swept: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "unranked"
    shutil.copytree(swept, directory)
    rows = pd.read_parquet(directory / "leaderboard.parquet").to_dict("records")
    frame = leaderboard([{**row, "score": np.nan} for row in rows], "score")  # type: ignore[dict-item]
    frame.to_parquet(directory / "leaderboard.parquet")
    findings = Findings.read(directory)
    html = page(findings)
    assert "Nothing could be ranked: none of the 9 that finished has a finite score." in html
    assert '<section class="verdict bad">' in html and "Best:" not in html
    assert findings.verdict is None


@pytest.mark.parametrize(
    ("change", "tone", "headline"),
    [
        ({"converged": "no"}, "bad", "Not to be trusted: the next best"),
        ({"converged": "no", "elbo": -9.96}, "warn", "Trustworthy as it stands, though not converged: "),
        ({"elbo": -9.96}, "good", "Trustworthy: "),
        ({"elbo": -9.96, "draws": 256.0}, "warn", "Not judged: "),
        ({"elbo": -10.2, "ess": 90.0}, "bad", "Not to be trusted: the weights of 4,096 draws are worth 90"),
        (
            {"status": "stopped", "steps": 20},
            "warn",
            "Trustworthy as it stands, though stopped after 20 steps: ",
        ),
    ],
)
def test_the_headline_is_green_for_a_converged_winner_of_enough_draws_alone(
    change: dict[str, Any], tone: str, headline: str, swept: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "changed"
    shutil.copytree(swept, directory)
    frame = pd.read_parquet(directory / "leaderboard.parquet")
    frame["converged"], frame["draws"], frame["ess"] = "yes", 4096.0, 4000.0
    if "status" in change:
        frame = frame[frame["key"] == "key0"].copy()
        change = {**change, "elbo": -9.96}
    if "elbo" in change:  # then nothing else comes close
        frame["elbo"] -= 5.0
    for name, value in change.items():
        frame.loc[frame["key"] == "key0", name] = value
    frame.to_parquet(directory / "leaderboard.parquet")
    html = page(Findings.read(directory))
    assert f'<section class="verdict {tone}"><p class="word">{headline}' in html


def test_a_sweep_on_its_way_has_no_curves_yet(swept: Path, tmp_path: Path) -> None:
    directory = tmp_path / "early"
    shutil.copytree(swept, directory)
    (directory / "curves.parquet").unlink()
    with pytest.raises(LookupError, match="the sweep is on its way"):
        curves_figure(Findings.read(directory))


def test_elements_are_picked_by_what_they_tell() -> None:
    rng = np.random.default_rng(0)
    first = pd.DataFrame(rng.normal(size=(500, 4)), columns=list("abcd"))
    second = first.assign(b=first["b"] + 2, d=3 * first["d"])
    assert most_different([first, second], 2) == ["b", "d"]
    tied = first.assign(d=first["a"] + 0.1 * first["b"])
    assert most_dependent(tied, 2) == ["a", "d"]
    coins = tied.assign(x=(tied["a"] > 0).astype(float), y=(tied["a"] > 0.1).astype(float))
    assert most_dependent(coins, 2) == ["a", "d"]  # what takes two values has no contours


def test_the_commands_write_files_and_say_where(swept: Path, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["report", str(swept.parent), "--output", str(file)])
    assert done.exit_code == 0 and done.stdout == f"{file}\n"
    assert file.read_text().startswith("<!doctype html>")
    other = tmp_path / "two.html"
    done = CliRunner().invoke(app, ["compare", str(swept), "1", "key4", "--output", str(other)])
    assert done.exit_code == 0
    assert "full_rank-kl_reverse-lr0.01-s0" in done.stdout and done.stdout.endswith(f"{other}\n")
    assert "chosen configurations" in other.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "SWEPT", "1"], "at least two configurations"),
        (["compare", "SWEPT", "1", "99"], "'99' is no configuration of this sweep; give a rank (1 to 10)"),
        (["report", "nowhere"], "no such directory"),
        (["report", "SWEPT", "--output", "no/where.html"], "cannot be written: No such file"),
    ],
)
def test_mistakes_are_told(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [str(swept) if word == "SWEPT" else word for word in arguments])
    assert done.exit_code == 2
    assert message in done.stderr
