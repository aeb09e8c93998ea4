"""What a worker needs to know before it gets its first pack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.holdout import Holdout
from vi_dist.evaluation.moments import Moments


@dataclass(frozen=True)
class Setup:
    """The part of a sweep that all its packs share; travels to every worker once.

    Args:
        build: where the model comes from.
        data: arrays by name, the path of a file to load where the worker is, or None for a model without data.
        samples: draws per evaluation.
        cpus: threads of a worker on a CPU.
        compile: whether steps are compiled: ``auto``, ``always`` or ``never``.
        evaluations: how many there will be at most, which is what compiling the log joint for them is worth.
        holdout: rows that do not train, and that guides are scored by.
        reference: means and sds of elements by name, to which the distance is measured.
    """

    build: BuildSource
    data: Mapping[str, Any] | str | None = None
    samples: int = 4096
    cpus: int = 1
    compile: str = "auto"
    evaluations: int = 1
    holdout: Holdout | None = None
    reference: Moments | None = None
