"""From a spec to a plan: everything resolved and checked, nothing started."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vi_dist.api.affordable import check_affordable
from vi_dist.api.catalogue import catalogue
from vi_dist.api.checks import CheckedModel, as_arrays, check
from vi_dist.api.initial_values import check_used, with_initial_values
from vi_dist.api.scores import check_rankable, with_scores
from vi_dist.api.shards import with_shards
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.setup import Setup
from vi_dist.errors import SpecError
from vi_dist.sweep import plan as packing
from vi_dist.sweep.catalogue import Catalogue
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.halving import Halving, halving_of
from vi_dist.sweep.search import TpeSearch
from vi_dist.sweep.space import resolve
from vi_dist.sweep.spec import OBJECTIVES, SweepSpec
from vi_dist.sweep.without_effect import without_effect

log = logging.getLogger(__name__)

PACK_BYTES = 4 << 30
"""Memory that a step of a pack may take, by the estimate."""
LIVE_COPIES = 6
"""Intermediates as large as the largest that live at once in a step."""


@dataclass(frozen=True)
class PlannedSweep:
    """A sweep that has passed every check: nothing has started, nothing is on disk.

    Attributes:
        setup: what workers need.
        configurations: in order, with their `keys`; of a search that learns, the first generation.
        packs: their plan.
        checked: the model.
        pack_size: configurations in a pack at most.
        halving: where its rungs are; None for none.
        search: asks for the next generations; None where `configurations` are all.
    """

    spec: SweepSpec
    setup: Setup
    configurations: Sequence[Configuration]
    keys: Sequence[str]
    packs: Sequence[packing.Pack]
    checked: CheckedModel
    pack_size: int
    halving: Halving | None
    search: TpeSearch | None

    @property
    def objective(self) -> str:
        """The number that configurations are ranked by: an attribute of `Outcome` and a column of the leaderboard."""
        return OBJECTIVES[self.spec.objective]

    def key(self, configuration: Configuration) -> str:
        """What stands for a configuration of this sweep's data and code."""
        return configuration.key(self.checked.data_digest, self.setup.version())

    def plan(
        self, configurations: Sequence[Configuration], first_place: int, first_index: int
    ) -> list[packing.Pack]:
        """The packs of configurations that join the sweep; see `vi_dist.sweep.plan.plan`."""
        return packing.plan(configurations, self.pack_size, first_place=first_place, first_index=first_index)


def plan_sweep(
    build: BuildSource,
    data: object,
    spec: SweepSpec,
    initial_values: Mapping[Any, Any] | None = None,
    *,
    scored: bool = False,
) -> PlannedSweep:
    """Resolve and check everything; `scored`: by a callable that the spec speaks of. Raises `SpecError`."""
    if (spec.objective == "callable") != scored:
        reason = (
            "a callable is a function of a fit, which only Python can give: Experiment.sweep(objective=f)"
        )
        raise SpecError(reason, path=spec.source.path, key="objective")
    given = initial_values is not None
    configurations, _ = _opening(spec, catalogue(initial_values=given))
    halving = halving_of(spec, configurations)
    threads = max(1, int(spec.cpus_per_actor))
    ahead = len(configurations) if spec.search != "tpe" else spec.configurations or len(configurations)
    setup = Setup(
        build,
        as_arrays(data, spec.columns),
        spec.evaluation.samples,
        threads,
        spec.compile,
        ahead,
        columns=spec.columns,
    )
    with spec.source.placing():
        setup = with_shards(setup, spec, configurations)
        setup = with_initial_values(setup, initial_values)
        setup = with_scores(setup, spec)
    checked = check(setup, spec.dtype)
    # Once more, now that the model is known: its coordinates and its params rule out further combinations.
    configurations, search = _opening(spec, catalogue(checked.layout, given))
    check_used(setup, configurations)
    for sentence in without_effect(spec, configurations):
        log.warning("%s", sentence)
    check_rankable(spec, configurations if search is None else search.kinds, checked.layout)
    version = setup.version()
    keys = [configuration.key(checked.data_digest, version) for configuration in configurations]
    size = pack_size(spec, checked, configurations)
    packs = packing.plan(configurations, size)
    row_bytes = max(checked.largest, checked.layout.size) * (8 if spec.dtype == "float64" else 4)
    with spec.source.placing():
        check_affordable(configurations, packs, row_bytes, LIVE_COPIES)
    return PlannedSweep(spec, setup, configurations, keys, packs, checked, size, halving, search)


def pack_size(spec: SweepSpec, checked: CheckedModel, configurations: Sequence[Configuration]) -> int:
    """How many configurations may share a pack: what the spec says or, for ``auto``, fewer where memory asks for it.

    A step of a pack is to take at most `PACK_BYTES`. That is estimated from the model and its data, so that the plan
    depends on the spec alone and not on a machine's memory.
    """
    if not isinstance(spec.pack_size, str):
        return spec.pack_size
    samples = max(configuration.num_samples for configuration in configurations)
    widest = packing.WIDEST_ON_GPU if spec.gpus_per_actor else packing.WIDEST
    a_number = 8 if spec.dtype == "float64" else 4
    per_number = samples * a_number * LIVE_COPIES
    # No sample has an intermediate larger than the data, as a rule: only for large data is the model traced for it.
    if checked.largest * per_number * widest <= PACK_BYTES:
        return widest
    fitting = PACK_BYTES // (checked.prepared.joint().widest * per_number)
    return min(widest, packing.widest_within(fitting))


def _opening(spec: SweepSpec, known: Catalogue) -> tuple[list[Configuration], TpeSearch | None]:
    """All configurations or, of a search that learns, the first generation and the search."""
    if spec.search != "tpe":
        return resolve(spec, known), None
    search = TpeSearch(spec, known)
    return search.ask(), search
