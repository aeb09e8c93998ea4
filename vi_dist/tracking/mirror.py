"""Records into MLflow: one parent run per sweep, one child per configuration, whatever was sent before."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from vi_dist.tracking.guide_artifact import log_guide, register
from vi_dist.tracking.limits import LONGEST_PARAM, LONGEST_TAG, cut, safe_name
from vi_dist.tracking.note import link_runs
from vi_dist.tracking.patience import GaveUp, Refused
from vi_dist.tracking.records import (
    MLFLOW_STATUS,
    Artifact,
    GuideLogged,
    Metrics,
    Note,
    PacksEnded,
    Point,
    Record,
    RunEnded,
    RunStarted,
    Status,
    SweepEnded,
    SweepStarted,
    Tags,
)
from vi_dist.tracking.state import State
from vi_dist.tracking.store import KEY_TAG, ROLE_TAG, SWEEP_TAG, Batch, Store
from vi_dist.tracking.views import CURVE, DEFAULT_AXES, view_tags

_log = logging.getLogger(__name__)
OFFSET_TAG = "vi.spool.offset"
PARENT = "sweep"
"""Stands for a key where the sweep's own run is meant."""


@dataclass
class _Buffer:
    """What a run has yet to be told."""

    metrics: list[Point] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class Mirror:
    """Applies records to a store, batching what belongs to one run.

    Applying a record twice, in one process or after a crash in another, leaves the store as once.

    Args:
        store: where to.
        state: what earlier writers of this spool have done; carried on in place.

    Attributes:
        awaited: whether the sweep's packs have ended, so that somebody waits for the rest.
    """

    def __init__(self, store: Store, state: State) -> None:
        self.store = store
        self.state = state
        self._buffers: dict[str, _Buffer] = {}
        self._closed: set[str] = set()
        self._found = ""
        self.awaited = False
        if state.sweep:
            self._find_runs()

    def apply(self, records: Iterable[Record]) -> None:
        """Store the records; on return nothing is left in memory. What MLflow refuses is counted.

        Raises:
            GaveUp: the store is away and nobody waits any more; apply the same records again some time.
        """
        for record in records:
            try:
                self._apply(record)
            except GaveUp:
                raise
            except Exception as fault:  # one bad record must not stop those behind it
                self.state.refuse(f"{type(record).__name__}: {type(fault).__name__}: {fault}")
            if isinstance(record, SweepStarted | SweepEnded):
                self.state.ended = isinstance(record, SweepEnded)
        for key in list(self._buffers):
            self._flush(key)

    def note_offset(self, offset: int) -> None:
        """Let the store itself say how much of the spool it holds: it may be emptied, or an older copy put back."""
        if self.state.parent_run_id:
            self.store.log(self.state.parent_run_id, Batch(tags={OFFSET_TAG: str(offset)}))

    def _apply(self, record: Record) -> None:
        match record:
            case SweepStarted():
                self._start_sweep(record)
            case RunStarted():
                self._start_run(record)
            case Metrics():
                self._buffer(record.key or PARENT).metrics += self._finite(record.points)
            case RunEnded():
                self._end_run(record)
            case Artifact():
                self._keep(record)
            case GuideLogged():
                self._log_guide(record)
            case Tags():
                self._buffer(record.key or PARENT).tags.update(_tags(record.tags))
            case Note():
                text = link_runs(record.text, self.state.experiment_id, self.state.run_ids, LONGEST_TAG)
                self._buffer(PARENT).tags["mlflow.note.content"] = text
            case PacksEnded():
                self.awaited = True
            case SweepEnded():
                self._end_sweep(record)

    def _start_sweep(self, record: SweepStarted) -> None:
        self.awaited = False
        state = self.state
        state.sweep = record.sweep
        state.experiment_id = self.store.experiment(record.experiment)
        tags = _tags(record.tags)
        state.shared_tags = {name: text for name, text in tags.items() if name.startswith("mlflow.")}
        if self._found != record.sweep:
            self._find_runs()
        own = {**tags, ROLE_TAG: "sweep", SWEEP_TAG: record.sweep, KEY_TAG: PARENT}
        state.parent_run_id = self._open(PARENT, record.name, own, record.timestamp_ms)
        self._add_params(PARENT, record.params)
        self._save_views(record.name, record.timestamp_ms, DEFAULT_AXES)

    def _start_run(self, record: RunStarted) -> None:
        tags = {
            **self.state.shared_tags,
            **_tags(record.tags),
            "mlflow.parentRunId": self.state.parent_run_id,
            ROLE_TAG: "configuration",
            SWEEP_TAG: self.state.sweep,
            KEY_TAG: record.key,
            "vi.attempt": str(record.attempt),
        }
        self.state.run_ids[record.key] = self._open(record.key, record.name, tags, record.timestamp_ms)
        self._add_params(record.key, record.params)

    def _open(self, key: str, name: str, tags: Mapping[str, str], start_ms: int) -> str:
        """The run of that key: the one that is there, open again, or a new one."""
        known = self.state.parent_run_id if key == PARENT else self.state.run_ids.get(key)
        if not known:
            return self.store.create(self.state.experiment_id, name, tags, start_ms)
        if known in self._closed:
            self.store.reopen(known)
            self._closed.discard(known)
        self._buffer(key, known).tags.update(tags)
        return known

    def _find_runs(self) -> None:
        """Learn from the store which runs the sweep has; of two with one key, the older counts."""
        self._found = self.state.sweep
        for run in reversed(self.store.runs(self.state.experiment_id, self.state.sweep)):
            key = run.data.tags[KEY_TAG]
            if key == PARENT:
                self.state.parent_run_id = run.info.run_id
            else:
                self.state.run_ids[key] = run.info.run_id
            if run.info.status != "RUNNING":
                self._closed.add(run.info.run_id)

    def _end_run(self, record: RunEnded) -> None:
        buffer = self._buffer(record.key)
        final = [(name, 0, value, record.timestamp_ms) for name, value in record.metrics.items()]
        buffer.metrics += self._finite(final)
        buffer.tags.update(_tags(record.tags))
        self._close(record.key, record.status, record.reason, record.timestamp_ms)

    def _close(self, key: str, status: Status, reason: str, end_ms: int) -> None:
        tags = {"vi.status": status, "vi.reason": reason or status}
        self._buffer(key).tags.update(_tags(tags))
        self._flush(key)
        run_id = self._run_id(key)
        self.store.end(run_id, MLFLOW_STATUS.get(status, "FAILED"), end_ms)
        self._closed.add(run_id)

    def _end_sweep(self, record: SweepEnded) -> None:
        """Close what is open, remove what a lost answer doubled, and let the views show what varied."""
        for key in list(self._buffers):
            self._flush(key)
        runs = self.store.runs(self.state.experiment_id, self.state.sweep)
        children = [run for run in runs if run.data.tags[KEY_TAG] != PARENT]
        for run in children:
            key, run_id = run.data.tags[KEY_TAG], run.info.run_id
            try:
                if self.state.run_ids.setdefault(key, run_id) != run_id:
                    self.store.delete(run_id)
                elif run.info.status == "RUNNING":
                    self._close(key, record.status, record.reason, record.timestamp_ms)
            except Refused as fault:
                self.state.refuse(f"closing {key}: {fault}")
        parent = next((run for run in runs if run.info.run_id == self.state.parent_run_id), None)
        if parent is not None:
            axes = _varying(children) or DEFAULT_AXES
            ends = [run.data.metrics[CURVE] for run in children if CURVE in run.data.metrics]
            self._save_views(parent.info.run_name, record.timestamp_ms, axes, ends)
        self._buffer(PARENT).tags["vi.dropped"] = str(self.state.dropped)
        self._close(PARENT, record.status, record.reason, record.timestamp_ms)

    def _keep(self, record: Artifact) -> None:
        run_id, path = self._run_id(record.key or PARENT), Path(record.path)
        self.store.upload(run_id, path, record.folder)
        if record.table:
            import pandas as pd

            table = pd.read_parquet(path).to_json(orient="split", index=False)
            self.store.write_table(run_id, table, str(Path(record.folder) / f"{path.stem}.json"))

    def _log_guide(self, record: GuideLogged) -> None:
        run_id = self._run_id(record.key)
        model_id = log_guide(self.store, self.state.experiment_id, run_id, self.state.sweep, record)
        if record.register:
            self.state.champion = register(self.store, model_id, run_id, record)

    def _save_views(self, name: str, stamp_ms: int, axes: list[str], ends: Sequence[float] = ()) -> None:
        """Saved chart views rest on what MLflow does not document: try once, never fail."""
        state = self.state
        try:
            tags = view_tags(state.sweep, name, state.parent_run_id, axes, stamp_ms, ends)
            for tag, value in tags.items():
                self.store.client.set_experiment_tag(state.experiment_id, tag, value)
            state.views = True
        except (MlflowException, OSError, ValueError) as fault:
            _log.warning("the saved views are left out: %s", fault)

    def _add_params(self, key: str, params: Mapping[str, object]) -> None:
        """Params as text; one that is too long is cut, and whole among the run's artifacts."""
        for name, text in _texts(params).items():
            short = text
            if len(text) > LONGEST_PARAM:
                file = f"params/{name}.txt"
                self.store.write_text(self._run_id(key), text, file)
                short = cut(text, LONGEST_PARAM, f" ... ({len(text)} characters, whole in {file})")
            self._buffer(key).params[name] = short

    def _finite(self, points: Sequence[Point]) -> list[Point]:
        """The points that have a place on an axis, under names that MLflow takes; the others are counted."""
        kept = [
            (safe_name(name), int(step), float(value), int(stamp))
            for name, step, value, stamp in points
            if value is not None and math.isfinite(value)
        ]
        self.state.dropped += len(points) - len(kept)
        return kept

    def _run_id(self, key: str) -> str:
        run_id = self.state.parent_run_id if key == PARENT else self.state.run_ids.get(key)
        if not run_id:
            raise Refused(f"no run was started for {key}")
        return run_id

    def _buffer(self, key: str, run_id: str = "") -> _Buffer:
        """The run's buffer; raises Refused for a run that was never started."""
        if not run_id:
            self._run_id(key)
        return self._buffers.setdefault(key, _Buffer())

    def _flush(self, key: str) -> None:
        buffer = self._buffers.pop(key, None)
        if buffer is not None:
            batch = Batch(buffer.metrics, buffer.params, buffer.tags)
            for message in self.store.log(self._run_id(key), batch):
                self.state.refuse(f"{key}: {message}")


def holds(store: Store, state: State) -> bool:
    """Whether a store holds what earlier writers of a spool have sent, by what it says itself (`note_offset`)."""
    run = store.find_run(state.parent_run_id) if state.parent_run_id else None
    return run is not None and int(run.data.tags.get(OFFSET_TAG, state.offset)) >= state.offset


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    """Values as text under names that MLflow takes."""
    return {safe_name(name): str(value) for name, value in values.items()}


def _tags(values: Mapping[str, object]) -> dict[str, str]:
    """Tags as MLflow takes them."""
    return {name: cut(text, LONGEST_TAG) for name, text in _texts(values).items()}


def _varying(runs: Iterable[Run]) -> list[str]:
    """The params that are not the same in all runs, in the order of their names."""
    seen: dict[str, set[str]] = {}
    for run in runs:
        for name, value in run.data.params.items():
            seen.setdefault(name, set()).add(value)
    return sorted(name for name, values in seen.items() if len(values) > 1)
