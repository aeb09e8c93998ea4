"""Sweeps over shards: what they are scored by is what one worker would say, and what they cannot do is refused."""

from __future__ import annotations

import json
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
    ],
)
def test_what_shards_cannot_do_is_refused(build: Any, options: dict[str, Any], words: str) -> None:
    given = {"space": SPACE, "shards": 2, "executor": "inline"} | options
    with pytest.raises(SpecError, match=words):
        Experiment(build, name="refused", data=DATA).sweep(**given)
