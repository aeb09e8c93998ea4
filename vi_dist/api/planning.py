"""From a spec to a plan: everything resolved and checked, nothing started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vi_dist.api.catalogue import catalogue
from vi_dist.api.checks import CheckedModel, as_arrays, check
from vi_dist.api.scores import with_scores
from vi_dist.api.shards import with_shards
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.setup import Setup
from vi_dist.sweep import plan as packing
from vi_dist.sweep.catalogue import Catalogue
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.halving import Halving, halving_of
from vi_dist.sweep.search import TpeSearch
from vi_dist.sweep.space import resolve
from vi_dist.sweep.spec import OBJECTIVES, SweepSpec


@dataclass(frozen=True)
class PlannedSweep:
    """A sweep that has passed every check: nothing has started, nothing is on disk.

    Attributes:
        setup: what workers need.
        configurations: in order, with their `keys`; of a search that learns, the first generation.
        packs: their plan.
        checked: the model.
        halving: where its rungs are; None for none.
        search: asks for the next generations; None where `configurations` are all.
    """

    spec: SweepSpec
    setup: Setup
    configurations: Sequence[Configuration]
    keys: Sequence[str]
    packs: Sequence[packing.Pack]
    checked: CheckedModel
    halving: Halving | None
    search: TpeSearch | None

    @property
    def objective(self) -> str:
        """The number that configurations are ranked by: an attribute of `Outcome` and a column of the leaderboard."""
        return OBJECTIVES[self.spec.objective]

    def key(self, configuration: Configuration) -> str:
        """What stands for a configuration of this sweep's data and code."""
        return configuration.key(self.checked.data_digest, _version(self.setup))

    def plan(
        self, configurations: Sequence[Configuration], first_place: int, first_index: int
    ) -> list[packing.Pack]:
        """The packs of configurations that join the sweep; see `vi_dist.sweep.plan.plan`."""
        size = pack_size(self.spec)
        return packing.plan(configurations, size, first_place=first_place, first_index=first_index)


def plan_sweep(build: BuildSource, data: object, spec: SweepSpec) -> PlannedSweep:
    """Resolve and check everything. Raises `SpecError`."""
    configurations, _ = _opening(spec, catalogue())
    halving = halving_of(spec, configurations)
    threads = max(1, int(spec.cpus_per_actor))
    ahead = len(configurations) if spec.search != "tpe" else spec.configurations or len(configurations)
    setup = Setup(build, as_arrays(data), spec.evaluation.samples, threads, spec.compile, ahead)
    with spec.source.placing():
        setup = with_scores(setup, spec)
        setup = with_shards(setup, spec, configurations)
    checked = check(setup, spec.dtype)
    # Once more, now that the model is known: its coordinates and its params rule out further combinations.
    configurations, search = _opening(spec, catalogue(checked.layout))
    version = _version(setup)
    keys = [configuration.key(checked.data_digest, version) for configuration in configurations]
    packs = packing.plan(configurations, pack_size(spec))
    return PlannedSweep(spec, setup, configurations, keys, packs, checked, halving, search)


def _version(setup: Setup) -> str:
    """What configurations' keys know of the code, and of the rows that a step sees."""
    batch_size = None if setup.shards is None else setup.shards.batch_size
    version = setup.build.version()
    return version if batch_size is None else f"{version} batch_size={batch_size}"


def pack_size(spec: SweepSpec) -> int | Literal["auto"]:
    """How many configurations may share a pack."""
    return "auto" if isinstance(spec.pack_size, str) else spec.pack_size


def _opening(spec: SweepSpec, known: Catalogue) -> tuple[list[Configuration], TpeSearch | None]:
    """All configurations or, of a search that learns, the first generation and the search."""
    if spec.search != "tpe":
        return resolve(spec, known), None
    search = TpeSearch(spec, known)
    return search.ask(), search
