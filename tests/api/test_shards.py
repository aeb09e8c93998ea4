"""Sweeps over shards: what they are scored by is what one worker would say, and what they cannot do is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, HalfNormal, Normal

from vi_dist import Experiment, Model, SpecError, random_variable
from vi_dist.api.planning import plan_sweep
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.inline_executor import inline_worker
from vi_dist.cluster.task import Outcome, PackTask
from vi_dist.sweep.spec import make_spec

ROWS = 41
X = np.random.default_rng(0).normal(size=ROWS)
DATA = {"x": X, "y": 1 + 0.5 * X + 0.7 * np.random.default_rng(1).normal(size=ROWS), "g": np.arange(ROWS) % 5}
SPACE = {"guide": [{"full_rank": {"whiten": True}}], "learning_rate": [0.05], "seed": [0]}
PLAIN = {"space": {**SPACE, "guide": ["mean_field"]}}


def regression(data: dict[str, Tensor]) -> Model:
    x, y = data["x"], data["y"]

    @random_variable
    def b() -> Distribution:
        return Normal(torch.zeros(2), 3.0)

    @random_variable
    def tau() -> Distribution:
        return HalfNormal(torch.tensor(2.0))

    @random_variable
    def obs() -> Distribution:
        return Normal(b()[0] + b()[1] * x, tau())

    return Model([b(), tau()], {obs(): y})


def levels(data: dict[str, Tensor]) -> Model:
    y = data["y"]

    @random_variable
    def mu() -> Distribution:
        return Normal(torch.tensor(0.0), 3.0)

    @random_variable
    def level() -> Distribution:
        return Normal(mu().expand(y.shape), 1.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(level(), 1.0)

    return Model([mu()], {obs(): y}, local=[level()])


def outcome(shards: int | None, reference: Path) -> Outcome:
    """Of a planned sweep's one configuration, without the sweep."""
    given = {
        "name": "scores",
        "space": SPACE,
        "shards": shards,
        "dtype": "float64",
        "steps": 40,
        "num_samples": 4,
    }
    scores = {"holdout": 0.3, "reference": str(reference), "evaluation": {"samples": 128}}
    spec = make_spec({**{name: value for name, value in given.items() if value is not None}, **scores})
    planned = plan_sweep(BuildSource(function=regression), DATA, spec)
    worker, task = inline_worker(planned.setup), PackTask(0, 1, tuple(planned.configurations))
    return worker.evaluate(task, worker.advance(task, None, 40).state).outcomes[0]


def test_shards_are_scored_as_one_worker_scores(tmp_path: Path) -> None:
    """Rows held out and a reference: the same numbers, and no worker has all rows."""
    reference = tmp_path / "reference.json"
    reference.write_text(json.dumps({f"b[{k}]": {"mean": 0.8, "sd": 0.1} for k in range(2)}))
    whole, cut = outcome(None, reference), outcome(2, reference)
    for name in ("elbo", "elbo_se", "khat", "elpd", "elpd_se", "mean_rms", "sd_rms"):
        assert getattr(cut, name) == pytest.approx(getattr(whole, name), rel=1e-8), name
    assert whole.elpd < 0 < whole.elpd_se


def centred(data: dict[str, Tensor]) -> Model:
    return regression({**data, "x": data["x"] - data["x"].mean()})


def weighted_prior(data: dict[str, Tensor]) -> Model:
    """A latent whose prior looks at the rows."""
    spread = data["y"].std()

    @random_variable
    def mu() -> Distribution:
        return Normal(torch.tensor(0.0), spread)

    @random_variable
    def obs() -> Distribution:
        return Normal(mu(), 1.0).expand(data["y"].shape)

    return Model([mu()], {obs(): data["y"]})


def by_group(data: dict[str, Tensor]) -> Model:
    """A global latent with an entry for each group, which every shard numbers anew."""

    @random_variable
    def effect() -> Distribution:
        return Normal(torch.zeros(5), 1.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(effect()[data["g"].long()], 1.0)

    return Model([effect()], {obs(): data["y"]})


def by_group_beside_levels(data: dict[str, Tensor]) -> Model:
    """The same, with a latent that does belong to groups."""
    g = data["g"].long()

    @random_variable
    def effect() -> Distribution:
        return Normal(torch.zeros(5), 1.0)

    @random_variable
    def level() -> Distribution:
        return Normal(torch.zeros(int(g.max()) + 1), 1.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(effect()[g] + level()[g], 1.0)

    return Model([effect()], {obs(): data["y"]}, local=[level()])


def levels_asked_for(data: dict[str, Tensor]) -> Model:
    model = levels(data)
    return Model(model.local, model.observations, local=model.local)


def as_many_as_there_are(data: dict[str, Tensor]) -> Model:
    """A global latent whose size is that of the largest category among a shard's rows."""
    category = data["k"].long()

    @random_variable
    def effect() -> Distribution:
        return Normal(torch.zeros(int(category.max()) + 1), 1.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(effect()[category], 1.0)

    return Model([effect()], {obs(): data["y"]})


@pytest.mark.parametrize(
    ("build", "column", "words"),
    [
        (as_many_as_there_are, None, r"effect has shape \(3,\) on shard 0 and \(5,\) on shard 1"),
        (regression, 30, "y is missing .* at row 30"),
    ],
)
def test_what_only_another_shard_shows_is_refused_before_anything_is_there(
    build: Any, column: int | None, words: str, tmp_path: Path
) -> None:
    data = {**DATA, "k": np.minimum(np.arange(ROWS) // 7, 4)}
    if column is not None:
        data["y"] = np.where(np.arange(ROWS) == column, np.nan, data["y"])
        np.savez(tmp_path / "rows.npz", **data)
    output = tmp_path / "out"
    source: Any = data if column is None else str(tmp_path / "rows.npz")
    experiment = Experiment(build, name="refused", data=source)
    with pytest.raises(SpecError, match=words):
        experiment.sweep(**PLAIN, shards=2, executor="inline", output_dir=str(output))
    assert not output.exists()


@pytest.mark.parametrize("place", ["rows.npz/inside", "nosuch://bucket"])
def test_a_checkpoint_directory_that_cannot_be_written_is_refused(place: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", **DATA)
    directory = place if "://" in place else str(tmp_path / place)
    experiment = Experiment(regression, name="refused", data=DATA)
    with pytest.raises(SpecError, match="nothing can be written to .*; name a folder"):
        experiment.sweep(**PLAIN, shards=2, executor="inline", checkpoint_dir=directory)


def test_sweeps_that_share_a_checkpoint_directory_do_not_meet(
    tmp_path: Path, with_store: Callable[[Path], Path]
) -> None:
    given = {**PLAIN, "executor": "inline", "steps": 20, "evaluation": {"samples": 64}}
    shared, names, output = tmp_path / "shared", [], with_store(tmp_path / "out")
    for count in (3, 2):
        found = Experiment(levels, name="meet", data=DATA).sweep(
            **given, shards=count, checkpoint_dir=str(shared), output_dir=str(output)
        )
        names.append(found.directory.name)
        kept = sorted(path.name for path in (shared / names[-1]).rglob("*.parquet"))
        assert kept == [f"shard-{rank}.parquet" for rank in range(count)]
    assert sorted(path.name for path in shared.iterdir()) == sorted(names)
    assert not list(shared.rglob("*.safetensors"))


def test_rows_at_an_address_are_read_by_shards(tmp_path: Path) -> None:
    import fsspec

    with fsspec.open("memory://bucket/rows.npz", "wb") as stream:
        np.savez(stream, **DATA)
    given = {"name": "there", "space": {**SPACE, "guide": ["mean_field"]}, "shards": 2}
    planned = [
        plan_sweep(BuildSource(function=regression), data, make_spec(given))
        for data in ("memory://bucket/rows.npz", DATA)
    ]
    there, here = (plan.setup.cut(1) for plan in planned)
    assert there.data["y"].equal(here.data["y"])  # type: ignore[union-attr,arg-type]
    assert len(there.ids) == 21


@pytest.mark.parametrize(
    ("build", "options", "words"),
    [
        (regression, {"holdout": 0.2, "group_by": "g"}, "group_by and holdout do not go together"),
        (levels, {"holdout": 0.2}, r"latents that belong to rows \(level\) say nothing of rows held out"),
        (levels, {}, r"needs the curvature .* of which the latents of rows \(level\)"),
        (levels, {"initialisation": "laplace"} | PLAIN, r"the initialisation laplace needs the curvature"),
        (centred, {}, "two parts of them .* together: build computes something of all its rows"),
        (weighted_prior, {}, "build computes something of all its rows"),
        (by_group, {"group_by": "g"} | PLAIN, "for latents that belong to groups, and the model has none"),
        (by_group_beside_levels, {"group_by": "g"} | PLAIN, "two parts of them .* together"),
        (levels_asked_for, PLAIN, "every query .*level.* belongs to rows"),
    ],
)
def test_what_shards_cannot_do_is_refused(build: Any, options: dict[str, Any], words: str) -> None:
    given = {"space": SPACE, "shards": 2, "executor": "inline"} | options
    with pytest.raises(SpecError, match=words):
        Experiment(build, name="refused", data=DATA).sweep(**given)
