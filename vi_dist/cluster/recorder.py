"""What a sweep tells MLflow: runs, params, curves within their budget, final metrics."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from vi_dist.cluster.observer import Observer
from vi_dist.cluster.pack_run import PackRun, chunk_values
from vi_dist.cluster.run_params import COMPARED, run_params, varying
from vi_dist.cluster.task import CURVES, Chunk, Outcome
from vi_dist.cluster.timings import Timings
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.plan import Pack
from vi_dist.tracking.budget import MANY_RUNS, kept_steps
from vi_dist.tracking.records import Metrics, Point, Record, RunEnded, RunStarted, now_ms
from vi_dist.tracking.tracker import Tracker


class Recorder(Observer):
    """Turns what happens to packs into records.

    In a sweep of more than `MANY_RUNS` configurations a run has neither params that are the same in all of them, which
    stand with the sweep's own run, nor a curve of gradient evaluations that is a multiple of its steps.

    Args:
        tracker: takes the records.
        configurations: of the sweep, with their `keys`, in order.
        timings: where the time that tracking takes is counted.
        total: configurations there will be, if more than `keys`.
        objective: what configurations are ranked by, an attribute of `Outcome`.
        kinds: configurations that show what those to come may differ in.
    """

    def __init__(
        self,
        tracker: Tracker,
        configurations: Sequence[Configuration],
        keys: Sequence[str],
        timings: Timings,
        *,
        total: int = 0,
        objective: str = "elbo",
        kinds: Sequence[Configuration] = (),
    ) -> None:
        self.tracker, self.keys, self.timings = tracker, list(keys), timings
        self._total, self._objective = max(total, len(keys)), objective
        self._kept: dict[int, list[int]] = {}
        self._done, self._best = 0, -math.inf
        self._over: dict[int, tuple[float, int]] = {}
        self._started: set[int] = set()
        self._many = self._total > MANY_RUNS
        differing = varying([*configurations, *kinds]) if self._many else frozenset()
        self._params = COMPARED | differing
        self._grad_evals = not self._many or "num_samples" in differing

    def write(self, *records: Record) -> None:
        """Pass records on, on tracking's account."""
        if records:
            with self.timings.tracked():
                self.tracker.write(*records)

    def joined(
        self, keys: Sequence[str], configurations: Sequence[Configuration], packs: Sequence[Pack]
    ) -> None:
        self.keys += keys

    def pack_started(self, run: PackRun) -> None:
        if run.attempt == 1 and self._started.issuperset(run.members):
            return  # they come from other packs: their runs are open
        place = run.place
        tags = {} if place is None else {"vi.node": place.node, "vi.device": place.device}
        if not self._many:
            tags["vi.pack"] = str(run.task.index)
        self._started.update(run.members)
        self.write(
            *(
                RunStarted(
                    self.keys[member], configuration.name, self._shown(configuration), tags, run.attempt
                )
                for member, configuration in zip(run.members, run.task.configurations, strict=True)
            )
        )

    def chunk_done(self, run: PackRun, chunk: Chunk) -> None:
        length = max(1, int((chunk.after - chunk.before).max()))
        pace = (chunk.ended_ms - chunk.began_ms) / length
        records = []
        spans = zip(chunk.before.tolist(), chunk.after.tolist(), strict=True)
        for row, (before, after) in enumerate(spans):
            configuration = run.task.configurations[row]
            points: list[Point] = []
            for step in self._kept_steps(configuration.steps, before + 1, after):
                stamp = int(chunk.began_ms + pace * (step - before))
                points += [
                    (name, step, float(chunk_values(chunk, name, row)[step - before - 1]), stamp)
                    for name in CURVES
                ]
                if self._grad_evals:
                    grad_evals = float(step * configuration.num_samples)
                    points.append(("progress/grad_evals", step, grad_evals, stamp))
            if points:
                records.append(Metrics(self.keys[run.members[row]], points))
        self.write(*records)

    def pack_ended(self, run: PackRun) -> None:
        assert run.outcomes is not None
        # Not now: a resumed sweep tells of its first packs again, and MLflow takes an equal point for the same.
        stamp = now_ms() if run.last is None else run.last.ended_ms
        records: list[Record] = []
        for member, outcome in zip(run.members, run.outcomes, strict=True):
            value = outcome.value(self._objective)
            if run.task.pause is not None and not math.isnan(value):
                point = (f"rung/{self._objective}", outcome.steps, value, stamp)
                records.append(Metrics(self.keys[member], [point]))
            if not outcome.over:
                continue
            if member in self._started:
                records.append(_ended(self.keys[member], outcome, run, stamp, self._many))
            if outcome.status != "interrupted":
                self._over[member] = (value if outcome.status == "finished" else -math.inf, stamp)
        self.write(*records, *self._best_so_far())

    def _best_so_far(self) -> Iterator[Record]:
        """The best value so far by how many configurations are over, counted from the list's first one.

        Not in the order in which they end: that changes when a sweep is resumed, and its points would come beside those
        that MLflow has.
        """
        while self._done in self._over:
            value, stamp = self._over.pop(self._done)
            self._done += 1
            if value > self._best:
                self._best = value
                yield Metrics(None, [(f"best/{self._objective}", self._done, value, stamp)])

    def _shown(self, configuration: Configuration) -> dict[str, object]:
        """The params of a configuration's run."""
        params = run_params(configuration)
        return {name: value for name, value in params.items() if not self._many or name in self._params}

    def _kept_steps(self, steps: int, first: int, last: int) -> list[int]:
        """The steps from first to last whose values MLflow gets."""
        if steps not in self._kept:
            self._kept[steps] = kept_steps(steps, self._total)
        kept = self._kept[steps]
        return kept[bisect_left(kept, first) : bisect_right(kept, last)]


def _ended(key: str, outcome: Outcome, run: PackRun, stamp: int, many: bool) -> RunEnded:
    """The record of a configuration's end; where there are `many` without what says nothing of most of them."""
    metrics = {
        "final/elbo": outcome.elbo,
        "final/elbo_se": outcome.elbo_se,
        "final/iw_elbo": outcome.iw_elbo,
        "final/khat": outcome.khat,
        "final/ess": outcome.ess,
        "final/elbo_change": outcome.elbo_change,
        "final/moved": outcome.moved,
        "final/elpd": outcome.elpd,
        "final/elpd_se": outcome.elpd_se,
        "final/score": outcome.score,
        "reference/mean_rms": outcome.mean_rms,
        "reference/sd_rms": outcome.sd_rms,
        "final/seconds": outcome.seconds,
        "final/steps_per_second": outcome.steps / outcome.seconds if outcome.seconds > 0 else math.nan,
        "final/skipped_steps": float(outcome.skipped),
    }
    metrics |= {f"sharding/{name}": value for name, value in outcome.sharding.items()}
    defined = {name: value for name, value in metrics.items() if not math.isnan(value)}
    if many and not outcome.skipped:
        del defined["final/skipped_steps"]
    tags = {"vi.converged": outcome.converged} if outcome.converged else {}
    if run.last is not None:
        kind = run.last.kind
        tags["vi.step"] = "compiled" if kind.compiled else kind.mode
        if not many or kind.mode == "loop":
            tags["vi.step.reason"] = kind.reason or kind.decision
    return RunEnded(key, outcome.status, outcome.reason, defined, tags, stamp)  # type: ignore[arg-type]
