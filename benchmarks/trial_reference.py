"""The posteriors of the trial, their references and what is known of their evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from vi_dist.evaluation.moments import Moments

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"


def names() -> list[str]:
    """The experiments that have a reference and fit one process: those whose data are an npz file of their name."""
    folders = (file.parent for file in EXPERIMENTS.glob("*/reference.json"))
    return sorted(folder.name for folder in folders if (folder / f"{folder.name}.npz").exists())


def reference(name: str) -> Moments:
    """Means and standard deviations by element."""
    read: Mapping[str, Mapping[str, float]] = json.loads((EXPERIMENTS / name / "reference.json").read_text())
    return {element: (known["mean"], known["sd"]) for element, known in read.items()}


def evidence(name: str) -> Mapping[str, float]:
    """`log_evidence`, the best ELBO of a `mean_field` and of a `full_rank` Gaussian, each with `_se`; where known."""
    read: Mapping[str, Mapping[str, float]] = json.loads((EXPERIMENTS / "evidence.json").read_text())
    return read.get(name, {})
