"""What a worker needs to know before it gets its first pack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vi_dist.cluster.build_source import BuildSource


@dataclass(frozen=True)
class Setup:
    """The part of a sweep that all its packs share; travels to every worker once.

    Args:
        build: where the model comes from.
        data: arrays by name, the path of a file to load where the worker is, or None for a model without data.
        samples: draws per evaluation.
        cpus: threads of a worker on a CPU.
        compile: whether steps are compiled: ``auto``, ``always`` or ``never``.
    """

    build: BuildSource
    data: Mapping[str, Any] | str | None = None
    samples: int = 4096
    cpus: int = 1
    compile: str = "auto"
