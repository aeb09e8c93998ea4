"""What configurations are ranked by: bounds, rows held out, a function of one's own; and a reference beside it."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, Normal

from vi_dist import Experiment, Fit, Model, SpecError, SweepResult, random_variable
from vi_dist.api.objective import NoNumber, finite
from vi_dist.api.planning import plan_sweep
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.holdout import Holdout
from vi_dist.model.data import load_data
from vi_dist.report.leaderboard import best_line, table_text
from vi_dist.sweep.spec import make_spec

ROWS = 40
X = np.random.RandomState(0).standard_normal((ROWS, 2))
DATA = {
    "x": X,
    "y": X @ np.array([1.0, -1.0]) + 0.5 * np.random.RandomState(1).standard_normal(ROWS),
    "label": np.array([f"row {k}" for k in range(ROWS)]),
    "prior": np.array([2.0, 3.0]),
}
OPTIONS: dict[str, Any] = {
    "steps": 150,
    "num_samples": 4,
    "executor": "inline",
    "compile": "never",
    "evaluation": {"samples": 512},
}


def regression(data: dict[str, Tensor]) -> Model:
    """y = x b + noise of known scale; the posterior is Gaussian."""
    x, y = data["x"], data["y"]

    @random_variable
    def b() -> Distribution:
        return Normal(torch.zeros(2), data["prior"])

    @random_variable
    def obs() -> Distribution:
        return Normal(x @ b(), 0.5)

    return Model([b()], {obs(): y})


def exact(held_out: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], float]:
    """Mean and covariance of b under the training rows, and the log predictive density of the others, row by row."""
    split = Holdout(ROWS, held_out)
    train, other = (split.chosen(held).numpy() for held in (False, True))
    precision = np.diag(1 / DATA["prior"] ** 2) + X[train].T @ X[train] / 0.25
    covariance = np.linalg.inv(precision)
    mean = covariance @ X[train].T @ DATA["y"][train] / 0.25
    sd = np.sqrt(0.25 + np.einsum("ni,ij,nj->n", X[other], covariance, X[other]))
    z = (DATA["y"][other] - X[other] @ mean) / sd
    return mean, covariance, float((-0.5 * z**2 - np.log(sd) - 0.5 * math.log(2 * math.pi)).sum())


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory, with_store: Callable[[Path], Path]) -> SweepResult:
    folder = tmp_path_factory.mktemp("objective")
    mean, covariance, _ = exact(0.25)
    sds = np.sqrt(np.diag(covariance))
    reference = {f"b[{k}]": {"mean": mean[k], "sd": sds[k]} for k in range(2)} | {
        "other": {"mean": 0, "sd": 1}
    }
    (folder / "reference.json").write_text(json.dumps(reference))
    return Experiment(regression, name="rows", data=DATA).sweep(
        {"guide": ["full_rank", "delta"], "learning_rate": [0.001, 0.1]},
        objective="elpd",
        holdout=0.25,
        reference=folder / "reference.json",
        schedule="cosine",
        output_dir=with_store(folder / "out"),
        **OPTIONS,
    )


def test_the_best_is_the_best_on_rows_held_out(held_out: SweepResult) -> None:
    frame = held_out.dataframe()
    assert frame["elpd"].is_monotonic_decreasing and np.isfinite(frame["elpd"]).all()
    assert (frame["elpd_se"] > 0).all()
    assert set(frame["learning_rate"][:2]) == {0.1}, "a point takes part in it too"
    best = held_out.best()
    assert best.elpd == pytest.approx(frame["elpd"][0])
    full_rank = frame[(frame["guide"].str.startswith("full_rank")) & (frame["learning_rate"] == 0.1)].iloc[0]
    assert full_rank["elpd"] == pytest.approx(exact(0.25)[2], abs=0.1)
    assert best_line(frame).startswith(f"best: {frame['name'][0]} elpd=")
    header = table_text(frame).splitlines()[0]
    assert header.split()[7:] == ["khat", "elpd", "elpd_se", "mean_rms", "sd_rms", "seconds"]


def test_the_reference_is_near_where_the_fit_is_good(held_out: SweepResult) -> None:
    frame = held_out.dataframe().set_index(["guide", "learning_rate"]).sort_index()
    names = [name for name in frame.index.levels[0] if name.startswith("full_rank")]
    good, bad = frame.loc[(names[0], 0.1)], frame.loc[(names[0], 0.001)]
    assert good["mean_rms"] < 0.15 and good["sd_rms"] < 0.15
    assert bad["mean_rms"] > 1.0
    assert frame.loc[("delta", 0.1), "sd_rms"] == pytest.approx(1.0)


def test_mlflow_has_the_scores(held_out: SweepResult) -> None:
    client, row = MlflowClient(held_out.tracking_uri), held_out.dataframe().iloc[0]
    metrics = client.get_run(row["run_id"]).data.metrics
    for metric, column in {
        "final/elpd": "elpd",
        "final/elpd_se": "elpd_se",
        "reference/mean_rms": "mean_rms",
        "reference/sd_rms": "sd_rms",
    }.items():
        assert metrics[metric] == pytest.approx(row[column])
    assert held_out.parent_run_id is not None
    parent = client.get_run(held_out.parent_run_id).data
    assert parent.metrics["best/elpd"] == pytest.approx(row["elpd"])
    assert "| elpd |" in parent.tags["mlflow.note.content"]


def test_a_sweep_without_scores_has_no_columns_of_them(result: SweepResult) -> None:
    assert not {"elpd", "score", "mean_rms"} & set(result.dataframe().columns)


def test_a_function_of_the_fit_ranks_at_rungs_and_at_the_end(
    tmp_path: Path, with_store: Callable[[Path], Path]
) -> None:
    seen: list[Fit] = []

    def smallest(fit: Fit) -> float:
        seen.append(fit)
        if fit.configuration["seed"] == 1:
            raise ZeroDivisionError("no luck")
        return -float(fit.sample(100)["b"].abs().sum())

    found = Experiment(regression, name="own", data=DATA).sweep(
        {"learning_rate": [0.001, 0.1], "seed": [0, 1]},
        objective=smallest,
        halving={"eta": 2, "min_steps": 50},
        output_dir=with_store(tmp_path),
        **OPTIONS,
    )
    frame = found.dataframe()
    # At 0.001 the guide has hardly left 0, where the sum of |b| is small.
    assert (frame["learning_rate"][0], frame["seed"][0]) == (0.001, 0)
    assert frame["status"].tolist().count("finished") == 1
    assert frame["score"][0] == -float(found.best().sample(100)["b"].abs().sum())
    assert {fit.steps for fit in seen} == {50, 100, 150}
    assert found.rungs()["value"].isna().any(), "what raised has no value"
    assert best_line(frame).startswith(f"best: {frame['name'][0]} score=-")
    assert found.spec.objective == "callable"


@pytest.mark.parametrize(
    ("objective", "what"),
    [
        (lambda fit: fit.nothing, "raised AttributeError: 'Fit' object has no attribute 'nothing'"),
        (lambda fit: math.nan, "returned nan, which is no finite number"),
        (lambda fit: -math.inf, "returned -inf, which"),
        (lambda fit: None, "returned None, which"),
        (lambda fit: "1.5", "returned '1.5', which"),
        (lambda fit: torch.ones(2), "returned tensor("),
        (lambda fit: 10**400, "returned 1000"),
        (lambda fit: sys.exit(0), "raised SystemExit: 0"),
    ],
)
def test_what_is_no_finite_number_is_named(objective: Callable[[Fit], Any], what: str) -> None:
    fit = Fit("key", "name", {}, "finished", "Done.", 1, torch.zeros(1))
    with pytest.raises(NoNumber, match=re.escape(what)):
        finite(objective, fit)


@pytest.mark.parametrize("value", [1, True, np.float32(2.0), torch.tensor(3.0), torch.ones(1, 1)])
def test_every_kind_of_one_number_is_a_score(value: Any) -> None:
    fit = Fit("key", "name", {}, "finished", "Done.", 1, torch.zeros(1))
    assert finite(lambda fit: value, fit) == float(value)


def test_an_objective_without_a_number_for_the_first_sound_fit_ends_the_sweep(
    tmp_path: Path, with_store: Callable[[Path], Path]
) -> None:
    """A fit that diverged, or a point estimate beside guides with a density, ends none."""
    seen: list[str] = []

    def nothing(fit: Fit) -> float:
        seen.append(fit.name)
        return math.nan

    experiment = Experiment(regression, name="none", data=DATA)
    space = {"guide": ["delta", "mean_field"], "learning_rate": [1e30, 0.05], "seed": [0, 1]}
    output, options = with_store(tmp_path), {**OPTIONS, "steps": 30, "pack_size": 1}
    with pytest.raises(SpecError) as caught:
        experiment.sweep(space, objective=nothing, output_dir=output, **options)
    assert caught.value.key == "objective"
    first = "mean_field-kl_reverse-lr0.05-s0"
    for words in ("returned nan", first, "one finite number", "goes on with a function"):
        assert words in caught.value.message
    assert seen == ["delta-kl_reverse-lr0.05-s0", "delta-kl_reverse-lr0.05-s1", first]
    (directory,) = (path.parent for path in output.glob("*/plan.json"))
    assert repr(str(directory)) in caught.value.message

    resumed = experiment.resume(directory, objective=lambda fit: fit.elbo)
    assert resumed.best().name.startswith("mean_field-kl_reverse-lr0.05")
    assert resumed.dataframe()["status"].tolist().count("diverged") == 4


def test_where_nothing_could_be_ranked_there_is_no_champion_and_the_report_says_so(
    tmp_path: Path, with_store: Callable[[Path], Path]
) -> None:
    found = Experiment(regression, name="points", data=DATA).sweep(
        {"guide": ["delta", "mean_field"], "learning_rate": [1e30, 0.05]},
        objective=lambda fit: fit.elbo if fit.configuration["guide"] != "delta" else math.nan,
        output_dir=with_store(tmp_path),
        budget={"minutes": 1e-9},
        **OPTIONS,
    )
    frame = found.dataframe()
    assert best_line(frame).startswith("best: none, since")
    with pytest.raises(LookupError):
        found.best()
    assert "<p>No configuration finished.</p>" in (found.directory / "report.html").read_text()
    assert not MlflowClient(found.tracking_uri).search_registered_models()


@pytest.mark.parametrize("objective", ["elbo", "iw_elbo"])
def test_point_estimates_alone_are_refused_where_they_cannot_be_ranked(objective: str) -> None:
    with pytest.raises(SpecError, match="so nothing could be ranked; add a guide with a density") as caught:
        Experiment(regression, name="bad", data=DATA).sweep(
            {"guide": ["delta"], "seed": [0, 1]}, objective=objective, **OPTIONS
        )
    assert caught.value.key == "space.guide"


def test_iw_elbo_ranks_too_and_one_row_can_be_held_out(
    tmp_path: Path, with_store: Callable[[Path], Path]
) -> None:
    found = Experiment(regression, name="iw", data=DATA).sweep(
        {"learning_rate": [0.02, 0.05]},
        objective="iw_elbo",
        holdout=1 / ROWS,
        output_dir=with_store(tmp_path),
        **OPTIONS,
    )
    frame = found.dataframe()
    assert frame["iw_elbo"].is_monotonic_decreasing
    assert best_line(frame).endswith(f"iw_elbo={frame['iw_elbo'][0]:.3f}")
    assert np.isfinite(frame["elpd"]).all()


def local(data: dict[str, Tensor]) -> Model:
    """One latent for every row."""
    y = data["y"]

    @random_variable
    def z() -> Distribution:
        return Normal(torch.zeros(y.shape[0]), 1.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(z(), 1.0)

    return Model([z()], {obs(): y})


def process(data: dict[str, Tensor]) -> Model:
    """One density for all rows together."""
    y = data["y"]

    @random_variable
    def m() -> Distribution:
        return Normal(0.0, 1.0)

    @random_variable
    def obs() -> Distribution:
        return MultivariateNormal(m().expand(y.shape), torch.eye(y.shape[0]))

    return Model([m()], {obs(): y})


def fixed(data: dict[str, Tensor]) -> Model:
    """A model that knows how many rows there are."""

    @random_variable
    def m() -> Distribution:
        return Normal(torch.zeros(ROWS), 1.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(m().mean() * torch.ones(ROWS), 1.0)

    return Model([m()], {obs(): data["y"]})


def alone(data: dict[str, Tensor]) -> Model:
    """What is observed is not in the data."""

    @random_variable
    def m() -> Distribution:
        return Normal(0.0, 1.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(m(), 1.0).expand((7,))

    return Model([m()], {obs(): torch.zeros(7)})


def scalar(data: dict[str, Tensor]) -> Model:
    """What is observed is one number."""

    @random_variable
    def m() -> Distribution:
        return Normal(0.0, 1.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(m(), 1.0)

    return Model([m()], {obs(): torch.tensor(1.0)})


@pytest.mark.parametrize(
    ("build", "data", "message"),
    [
        (local, DATA, r"z has shape \(40,\) with all rows and \(32,\) with 32 of them"),
        (process, DATA, "not one for each of its 32 rows"),
        (fixed, DATA, "on 32 of the 40 rows the model fails, and on all of them it does not"),
        (alone, DATA, "no array of the data has the 7 rows of what the model observes"),
        (scalar, DATA, "what the model observes has no rows in common"),
        (alone, None, "there are no data whose rows could be held out"),
    ],
)
def test_rows_that_cannot_be_held_out_are_refused_before_anything_starts(
    build: Callable[..., Model], data: Any, message: str, tmp_path: Path
) -> None:
    experiment = Experiment(build, name="bad", data=data)
    with pytest.raises(SpecError, match=message) as caught:
        experiment.sweep({"seed": [0]}, holdout=0.2, output_dir=tmp_path / "out", **OPTIONS)
    assert caught.value.key == "holdout"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"beta": {"mean": 0, "sd": 1}}', "the reference names beta, ..., of which the model has none"),
        ('{"b[0]": {"mean": 0}}', r"b\[0\] in .* has no mean and sd"),
        ("[1]", "holds no elements by name"),
        ("{", "no reference that can be read"),
        ('{"b[0]": {"mean": 0, "sd": 0}, "b[1]": {"mean": 0, "sd": 0}}', r"b\[0\], b\[1\] in .* has sd 0"),
    ],
)
def test_a_reference_that_is_none_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "reference.json").write_text(content)
    experiment = Experiment(regression, name="bad", data=DATA)
    with pytest.raises(SpecError, match=message) as caught:
        experiment.sweep({"seed": [0]}, reference=tmp_path / "reference.json", **OPTIONS)
    assert caught.value.key == "reference"


@pytest.mark.parametrize(
    ("keys", "key", "message"),
    [
        ({"objective": "elpd"}, "holdout", "none are held out; write for example holdout: 0.2"),
        ({"holdout": 1.0}, "holdout", "too large"),
        ({"holdout": 0}, "holdout", "too small"),
        ({"objective": "elbow"}, "objective", "did you mean elbo?"),
        ({"objective": "callable"}, "objective", "only Python can give"),
        ({"reference": "nowhere.json"}, "reference", "there is no file"),
    ],
)
def test_keys_that_cannot_be_are_refused(keys: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        Experiment(regression, name="bad", data=DATA).sweep({"seed": [0]}, **keys, **OPTIONS)
    assert caught.value.key == key


def test_a_split_is_seeded_whole_and_leaves_other_arrays_alone() -> None:
    data = load_data(DATA)
    split = Holdout(ROWS, 0.25, seed=3)
    train, other = split.chosen(False), split.chosen(True)
    assert sorted([*train.tolist(), *other.tolist()]) == list(range(ROWS)) and len(other) == 10
    assert train.tolist() == sorted(train.tolist())
    assert Holdout(ROWS, 0.25, seed=3).chosen(True).equal(other)
    assert not Holdout(ROWS, 0.25, seed=4).chosen(True).equal(other)
    part = split.part(data, held_out=True)
    assert part["x"].shape == (10, 2) and part["label"].tolist() == [f"row {k}" for k in other.tolist()]
    assert part["prior"].tolist() == [2.0, 3.0]
    assert split.split(data) == ["x", "y", "label"]
    assert (Holdout(2, 0.01).count, Holdout(2, 0.99).count) == (1, 1)


def test_what_a_reference_says_in_vain_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = {"b[0]": {"mean": 0, "sd": 1}, "b[1]": {"mean": 0, "sd": 0}, "beta": {"mean": 0, "sd": 1}}
    (tmp_path / "reference.json").write_text(json.dumps(content))
    spec = make_spec({"name": "a", "space": {"seed": [0]}, "reference": str(tmp_path / "reference.json")})
    plan_sweep(BuildSource(function=regression), DATA, spec)
    assert "b[1] has sd 0, which the distance leaves out" in caplog.text
    assert "the model has no beta, which the distance leaves out" in caplog.text
