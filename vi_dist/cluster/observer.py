"""What a sweep tells those who keep its results."""

from __future__ import annotations

from collections.abc import Sequence

from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.task import Chunk
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.plan import Pack


class Observer:
    """Told what happens, in the driver's process; what it does costs the sweep time. Every method may be left out."""

    def joined(
        self, keys: Sequence[str], configurations: Sequence[Configuration], packs: Sequence[Pack]
    ) -> None:
        """More configurations, and the plan of their packs, join the sweep; their places follow those before."""

    def pack_started(self, run: PackRun) -> None:
        """A pack begins, or begins again on another worker (`run.attempt` > 1)."""

    def chunk_done(self, run: PackRun, chunk: Chunk) -> None:
        """A pack has taken some steps."""

    def pack_ended(self, run: PackRun) -> None:
        """A pack has its outcomes, however it ended."""


class ReleasesResults(Observer):
    """Comes after those that keep results on disk: the memory of a sweep does not grow with its curves and guides."""

    def pack_ended(self, run: PackRun) -> None:
        run.release_results()
