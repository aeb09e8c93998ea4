"""What a sweep tells MLflow: runs, params, curves within their budget, final metrics."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from vi_dist.cluster.observer import Observer
from vi_dist.cluster.pack_run import PackRun, chunk_values
from vi_dist.cluster.task import CURVES, Chunk, Outcome
from vi_dist.cluster.timings import Timings
from vi_dist.sweep.configuration import Choice, Configuration
from vi_dist.sweep.plan import Pack
from vi_dist.tracking.budget import kept_steps
from vi_dist.tracking.records import Metrics, Point, Record, RunEnded, RunStarted, now_ms
from vi_dist.tracking.tracker import Tracker


class Recorder(Observer):
    """Turns what happens to packs into records.

    Args:
        tracker: takes the records.
        keys: of the sweep's configurations, in order.
        timings: where the time that tracking takes is counted.
        total: configurations there will be, if more than `keys`.
        objective: what configurations are ranked by, an attribute of `Outcome`.
    """

    def __init__(
        self,
        tracker: Tracker,
        keys: Sequence[str],
        timings: Timings,
        total: int = 0,
        objective: str = "elbo",
    ) -> None:
        self.tracker, self.keys, self.timings = tracker, list(keys), timings
        self._total, self._objective = max(total, len(keys)), objective
        self._kept: dict[int, list[int]] = {}
        self._done, self._best = 0, -math.inf
        self._over: dict[int, tuple[float, int]] = {}
        self._started: set[int] = set()

    def write(self, record: Record) -> None:
        """Pass a record on, on tracking's account."""
        with self.timings.tracked():
            self.tracker.write(record)

    def joined(
        self, keys: Sequence[str], configurations: Sequence[Configuration], packs: Sequence[Pack]
    ) -> None:
        self.keys += keys

    def pack_started(self, run: PackRun) -> None:
        if run.attempt == 1 and self._started.issuperset(run.members):
            return  # they come from other packs: their runs are open
        place = run.place
        tags = {} if place is None else {"vi.node": place.node, "vi.device": place.device}
        for member, configuration in zip(run.members, run.task.configurations, strict=True):
            self._started.add(member)
            params = run_params(configuration)
            self.write(
                RunStarted(
                    self.keys[member],
                    configuration.name,
                    params,
                    {**tags, "vi.pack": run.task.index},
                    run.attempt,
                )
            )

    def chunk_done(self, run: PackRun, chunk: Chunk) -> None:
        length = max(1, int((chunk.after - chunk.before).max()))
        pace = (chunk.ended_ms - chunk.began_ms) / length
        for row, (member, configuration) in enumerate(zip(run.members, run.task.configurations, strict=True)):
            first, last = int(chunk.before[row]) + 1, int(chunk.after[row])
            points: list[Point] = []
            for step in self._kept_steps(configuration.steps, first, last):
                stamp = int(chunk.began_ms + pace * (step - first + 1))
                points += [
                    (name, step, float(chunk_values(chunk, name, row)[step - first]), stamp)
                    for name in CURVES
                ]
                points.append(("progress/grad_evals", step, float(step * configuration.num_samples), stamp))
            if points:
                self.write(Metrics(self.keys[member], points))

    def pack_ended(self, run: PackRun) -> None:
        assert run.outcomes is not None
        # Not now: a resumed sweep tells of its first packs again, and MLflow takes an equal point for the same.
        stamp = now_ms() if run.last is None else run.last.ended_ms
        for member, outcome in zip(run.members, run.outcomes, strict=True):
            value = outcome.value(self._objective)
            if run.task.pause is not None and not math.isnan(value):
                point = (f"rung/{self._objective}", outcome.steps, value, stamp)
                self.write(Metrics(self.keys[member], [point]))
            if not outcome.over:
                continue
            if member in self._started:
                self.write(_ended(self.keys[member], outcome, run, stamp))
            if outcome.status != "interrupted":
                self._over[member] = (value if outcome.status == "finished" else -math.inf, stamp)
        self._record_best()

    def _record_best(self) -> None:
        """Record the best value so far by how many configurations are over, counted from the list's first one.

        Not in the order in which they end: that changes when a sweep is resumed, and its points would come beside those
        that MLflow has.
        """
        while self._done in self._over:
            value, stamp = self._over.pop(self._done)
            self._done += 1
            if value > self._best:
                self._best = value
                self.write(Metrics(None, [(f"best/{self._objective}", self._done, value, stamp)]))

    def _kept_steps(self, steps: int, first: int, last: int) -> list[int]:
        """The steps from first to last whose values MLflow gets."""
        if steps not in self._kept:
            self._kept[steps] = kept_steps(steps, self._total)
        kept = self._kept[steps]
        return kept[bisect_left(kept, first) : bisect_right(kept, last)]


def run_params(configuration: Configuration) -> dict[str, Any]:
    """A configuration as MLflow's params; what is compared keeps its whole name (``amari(alpha=0.5)``)."""
    rate = configuration.learning_rate
    return {
        "guide.family": configuration.guide.name,
        **_arguments("guide", configuration.guide),
        "divergence": str(configuration.divergence),
        **_arguments("divergence", configuration.divergence),
        "estimator": str(configuration.estimator),
        "optim.name": configuration.optimizer.name,
        **_arguments("optim", configuration.optimizer),
        "optim.lr": rate,
        "optim.log10_lr": round(math.log10(rate), 6),
        "optim.schedule": str(configuration.schedule),
        "num_samples": configuration.num_samples,
        "steps": configuration.steps,
        "initialisation": configuration.initialisation.name,
        "averaging": configuration.averaging,
        "seed": configuration.seed,
        "dtype": configuration.dtype,
    }


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted names.

    >>> flattened({"name": "a", "space": {"seed": [0, 1]}})
    {'name': 'a', 'space.seed': [0, 1]}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= (
            flattened(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
        )
    return flat


def _arguments(prefix: str, choice: Choice) -> dict[str, Any]:
    return {f"{prefix}.{name}": value for name, value in choice.arguments}


def _ended(key: str, outcome: Outcome, run: PackRun, stamp: int) -> RunEnded:
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
    tags = {"vi.converged": outcome.converged} if outcome.converged else {}
    if run.last is not None:
        kind = run.last.kind
        tags |= {
            "vi.step": "compiled" if kind.compiled else kind.mode,
            "vi.step.reason": kind.reason or kind.decision,
        }
    return RunEnded(key, outcome.status, outcome.reason, defined, tags, stamp)  # type: ignore[arg-type]
