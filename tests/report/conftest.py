"""A sweep's directory written by hand: every file that a report reads, with values that are known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.distributions import Distribution, HalfNormal, Normal

from vi_dist.checked_files import replace_file, sealed_json
from vi_dist.model.decorators import functional, param, random_variable
from vi_dist.model.model import Model
from vi_dist.report.leaderboard import leaderboard
from vi_dist.vi import saved_guide
from vi_dist.vi.density import Density
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.layout import make_layout
from vi_dist.vi.sampling import make_constrain

STEPS = 200
SPEC = """
name: toy & co
steps: 200
num_samples: 4
evaluation: {samples: 4096}
tracking_uri: http://ada:secret@127.0.0.1:5000
"""


@random_variable
def mu() -> Distribution:
    return Normal(torch.zeros(2), 3.0)


@random_variable
def tau() -> Distribution:
    return HalfNormal(torch.tensor(2.0))


@param
def shift() -> Tensor:
    return torch.tensor(0.5)


@functional
def total() -> Tensor:
    return mu().sum() + shift()


@random_variable
def y() -> Distribution:
    return Normal(mu().sum() + shift(), tau())


def _plan() -> dict[str, dict[str, Any]]:
    """Configurations by key: two guides, two divergences, two seeds and two more."""
    common = {
        "estimator": "stl",
        "optimizer": {"adam": {"beta1": 0.9}},
        "schedule": "constant",
        "steps": STEPS,
    }
    common |= {"num_samples": 4, "dtype": "float32"}
    found = {}
    for guide in ("full_rank", "mean_field"):
        for divergence in ("kl_reverse", {"amari": {"alpha": 0.5}}):
            for seed in (0, 1):
                short = divergence if isinstance(divergence, str) else "amari0.5"
                name = f"{guide}-{short}-lr0.01-s{seed}"
                found[f"key{len(found)}"] = {
                    **common, "guide": guide, "divergence": divergence, "learning_rate": 0.01, "seed": seed,
                    "name": name,
                }  # fmt: skip
    found["point"] = {**found["key0"], "guide": "delta", "name": "delta-kl_reverse-lr0.01-s0"}
    found["lost"] = {**found["key0"], "learning_rate": 1e30, "name": "full_rank-kl_reverse-lr1e30-s0"}
    return found


def _row(key: str, place: int, chosen: dict[str, Any]) -> dict[str, Any]:
    """A row of the leaderboard; the later the worse."""
    lost, point = key == "lost", key == "point"
    divergence = chosen["divergence"]
    return {
        **chosen,
        "key": key,
        "divergence": divergence if isinstance(divergence, str) else "amari(alpha=0.5)",
        "optimizer": "adam(beta1=0.9)",
        "steps": 7 if lost else STEPS,
        "status": "diverged" if lost else "finished",
        "reason": "Diverged at step 7 <here>." if lost else "All steps done.",
        "elbo": math.nan if lost or point else -10.0 - 0.01 * place,
        "elbo_se": 0.005,
        "iw_elbo": math.nan if lost or point else -9.95,
        "khat": math.nan if lost or point else 0.1 + 0.1 * place,
        "seconds": 1.5,
        "run_id": "",
    }


def _curves(keys: list[str]) -> pd.DataFrame:
    """Curves that rise to the row's level, of which that of ``lost`` ends soon."""
    parts = []
    for place, key in enumerate(keys):
        steps = np.arange(1, 8 if key == "lost" else STEPS + 1)
        for metric in ("train/elbo", "train/loss"):
            values = -10.0 - 0.01 * place - 100.0 / steps
            parts.append(
                pd.DataFrame({"configuration": key, "step": steps, "metric": metric, "value": values})
            )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep's own directory; tests leave it as it is."""
    directory = tmp_path_factory.mktemp("out") / "toy-20260101-000000-abcd"
    (directory / "guides").mkdir(parents=True)
    plan = _plan()
    (directory / "spec.resolved.yaml").write_text(SPEC)
    (directory / "plan.json").write_text(json.dumps({"configurations": plan, "packs": []}))
    frame = leaderboard(_row(key, place, chosen) for place, (key, chosen) in enumerate(plan.items()))
    frame.to_parquet(directory / "leaderboard.parquet")
    _curves(list(plan)).to_parquet(directory / "curves.parquet")
    model = Model([mu(), tau(), total()], {y(): torch.tensor(1.0)})
    layout = make_layout(model)
    for place, (key, chosen) in enumerate(plan.items()):
        if key == "lost":
            continue
        family = GUIDES[chosen["guide"]].make(layout.noise)
        leaves = family.initial(layout.loc + 0.1 * place, 0.3)
        own = {"model.shift": torch.tensor(0.25)}
        save_file({**leaves, **own}, directory / "guides" / f"{key}.safetensors")
        if key == "key0":
            constrain = make_constrain(Density(model, layout), torch.cat((layout.loc, layout.eta)))
            fit = directory / "fits" / key
            saved_guide.save(fit, "full_rank", {}, leaves, torch.tensor([0.25]), layout, constrain)
            sites = [[site.name, site.size] for site in (*layout.latents, *layout.params)]
            replace_file(fit / "fit.json", sealed_json({"coordinates": sites}))
    return directory
