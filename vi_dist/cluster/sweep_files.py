"""A sweep's directory: everything of it that outlives the process."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from vi_dist.checked_files import EMPTY_MARK, reach_disk, replace_file, sealed, sealed_json
from vi_dist.cluster.observer import Observer
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.rows import row_of
from vi_dist.cluster.task import CURVES as METRICS
from vi_dist.cluster.task import Array
from vi_dist.report.leaderboard import leaderboard
from vi_dist.report.rungs import rung_table
from vi_dist.report.sweep_directory import (
    CURVES,
    FITS,
    GUIDES,
    JOURNAL,
    LEADERBOARD,
    MENDING,
    ORIGIN,
    PACKS,
    PLAN,
    RUNGS,
    SPEC,
    SPOOL,
    SUMMARY,
    Origin,
    Summary,
)
from vi_dist.report.table_file import read_table, write_table
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.halving import Rung
from vi_dist.sweep.plan import Pack
from vi_dist.vi.tensor_file import read_tensors, write_tensors

REST_SECONDS, REST_SHARE = 5.0, 50
"""Least time between two versions of the tables of a sweep under way: so long, and so many times what the last took."""
MODEL_PREFIX = "model."
"""Before the names of the model's own params, where they stand beside the guide's."""
# Threads that wait for the disk at a sweep's end.
_WAITING = 8
_SPEC_HEAD = f"""# The sweep's spec with every default, as it ran. To change it, change a copy.
# {EMPTY_MARK}
"""


class SweepFiles(Observer):
    """The files of one sweep; every file is replaced whole, so that a crash leaves no half of one.

    While the sweep is under way its tables (leaderboard, rungs, plan) are written every few seconds at most. What a
    crash keeps from them the journal knows: a resumed sweep writes them as those of an undisturbed one.

    Args:
        directory: the sweep's own.
        keys: of its configurations, in order.
        objective: the leaderboard's column that it is ranked by.
    """

    def __init__(self, directory: Path, keys: Sequence[str], objective: str = "elbo") -> None:
        self.directory, self.keys, self._objective = directory, list(keys), objective
        self._rows: dict[int, dict[str, Any]] = {}
        self._work = [0, 0]
        self._plan: dict[str, Any] = {}
        self._rungs: list[dict[str, Any]] = []
        self._stale: set[str] = set()
        self._next_writing = 0.0
        for folder in (GUIDES, PACKS, SPOOL):
            (directory / folder).mkdir(parents=True, exist_ok=True)

    @property
    def spool(self) -> Path:
        """Where the tracker keeps its records."""
        return self.directory / SPOOL

    @property
    def journal(self) -> Path:
        """Where what workers answer is kept while the sweep is under way."""
        return self.directory / JOURNAL

    @classmethod
    def create(cls, output_dir: Path, name: str, keys: Sequence[str], objective: str = "elbo") -> SweepFiles:
        """A new directory for a sweep of that name."""
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        return cls(output_dir / f"{name.replace(' ', '_')}-{stamp}-{uuid.uuid4().hex[:4]}", keys, objective)

    def write_plan(
        self, configurations: Sequence[Configuration], packs: Sequence[Pack], spec: str, model: str = ""
    ) -> None:
        """Keep what the sweep is: its spec with every default, its configurations and how they are packed.

        `model` is the digest of the model's file (`Origin`).
        """
        replace_file(self.directory / SPEC, sealed(f"{_SPEC_HEAD}{spec}".encode()))
        origin = asdict(Origin(spec, model, digest_of_keys(self.keys)))
        replace_file(self.directory / ORIGIN, sealed_json(origin))
        self._plan = {"configurations": {}, "packs": [], "origin": origin}
        self._add_to_plan(self.keys, configurations, packs)
        self._write_plan()

    def joined(
        self, keys: Sequence[str], configurations: Sequence[Configuration], packs: Sequence[Pack]
    ) -> None:
        """Keep what joins the sweep."""
        self.keys += keys
        self._add_to_plan(keys, configurations, packs)
        self._stale.add(PLAN)

    def _add_to_plan(
        self, keys: Sequence[str], configurations: Sequence[Configuration], packs: Sequence[Pack]
    ) -> None:
        named = {key: one.to_dict() for key, one in zip(keys, configurations, strict=True)}
        self._plan["configurations"] |= named
        self._plan["packs"] += [pack.to_dict() for pack in packs]

    def _write_plan(self) -> None:
        replace_file(self.directory / PLAN, sealed_json(self._plan))

    def pack_ended(self, run: PackRun) -> None:
        """Keep guides, curves and rows."""
        assert run.outcomes is not None
        members = zip(run.members, run.task.configurations, run.outcomes, strict=True)
        for member, configuration, outcome in members:
            if not outcome.over:
                continue
            self._rows[member] = row_of(self.keys[member], configuration, outcome)
            if outcome.leaves:
                params = joined_params(outcome.leaves, outcome.model_params)
                write_tensors(self.guide(self.keys[member]), params, durable=False)
        self._count(run)
        keys = [self.keys[member] for member in run.members]
        table = curve_table(
            dict(zip(keys, run.curves(), strict=True)), dict(zip(keys, run.first.tolist(), strict=True))
        )
        part = self.directory / PACKS / f"{run.task.index}.parquet"
        write_table(part, [table], table.schema, durable=False)
        if time.monotonic() >= self._next_writing:
            began = time.monotonic()
            self.write_tables()
            ended = time.monotonic()
            self._next_writing = ended + max(REST_SECONDS, REST_SHARE * (ended - began))

    def _count(self, run: PackRun) -> None:
        """Count a pack's work: every one of its columns takes part in every step."""
        if run.last is not None:
            self._work[0] += run.task.width * int((run.last.after - run.first).max())
        if not run.first.any():
            self._work[1] += run.task.width * max(one.steps for one in run.task.configurations)

    def rung_ranked(self, rung: Rung, configurations: Sequence[Configuration], generation: int) -> None:
        """Keep how a rung of a generation (from 1) was ranked."""
        self._rungs += [
            {
                "generation": generation,
                "rung": rung.number,
                "steps": rung.steps,
                "key": self.keys[place],
                "value": rung.values[place],
                "rank": rank,
                "goes_on": rank <= rung.kept,
                "of": configurations[place].steps,
            }
            for rank, place in enumerate(rung.order, start=1)
        ]
        self._stale.add(RUNGS)

    def guide(self, key: str) -> Path:
        """Where a configuration's params are."""
        return guide_file(self.directory, key)

    def write_tables(self) -> Path:
        """Write the leaderboard, and plan and rungs if they have changed; returns the leaderboard's path."""
        if PLAN in self._stale:
            self._write_plan()
        if RUNGS in self._stale:
            table = pa.Table.from_pandas(rung_table(self._rungs), preserve_index=False)
            write_table(self.directory / RUNGS, [table], table.schema)
        self._stale.clear()
        return self.write_leaderboard()

    def write_leaderboard(self, run_ids: Mapping[str, str] | None = None) -> Path:
        """Keep the leaderboard of what has ended so far, with the MLflow runs by key if they are known."""
        for row in self._rows.values():
            row["run_id"] = (run_ids or {}).get(row["key"], "")
        rows = [self._rows[member] for member in sorted(self._rows)]
        frame = leaderboard(rows, self._objective)
        table = pa.Table.from_pandas(frame, preserve_index=False)
        return write_table(self.directory / LEADERBOARD, [table], table.schema)

    def write_curves(self) -> Path:
        """Join the curves of all packs into one table."""
        parts = sorted((self.directory / PACKS).glob("*.parquet"), key=lambda part: int(part.stem))
        write_table(self.directory / CURVES, map(read_table, parts), curve_table({}).schema)
        for part in parts:
            part.unlink()
        return self.directory / CURVES

    def reach_disk(self) -> None:
        """Return once every guide, and the name of every file, is on the disk.

        Guides are written without waiting for the disk, since the journal gives them again; so the journal stays until
        then. Tables, fits and summary wait for it as they are written.
        """
        with ThreadPoolExecutor(_WAITING) as threads:  # the disk takes several at once
            list(threads.map(reach_disk, (self.directory / GUIDES).iterdir()))
        for folder in (GUIDES, FITS, ".", ".."):
            if (self.directory / folder).is_dir():
                reach_disk(self.directory / folder)

    def write_summary(self, summary: Summary) -> None:
        """Keep how the sweep went."""
        taken, full = self._work
        summary = replace(summary, column_steps=(taken, full))
        replace_file(self.directory / SUMMARY, sealed_json(summary.to_dict()))


def digest_of_keys(keys: Sequence[str]) -> str:
    """What stands for configurations by their keys, in order."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def joined_params(leaves: Mapping[str, Tensor], model_params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A guide's parameters and the model's own in one mapping; the latter's names start with ``model.``."""
    return {**leaves, **{f"{MODEL_PREFIX}{name}": value for name, value in model_params.items()}}


def guide_file(directory: Path, key: str) -> Path:
    """Where a sweep keeps a configuration's params."""
    return directory / GUIDES / f"{key}.safetensors"


def read_params(directory: Path, key: str) -> dict[str, Tensor]:
    """A configuration's params as `joined_params` made them; empty if it has none."""
    file = guide_file(directory, key)
    return read_tensors(file, MENDING) if file.exists() else {}


def read_curve(directory: Path, key: str, metric: str) -> Tensor:
    """One configuration's values of one curve, `(steps,)`."""
    conditions = [("configuration", "==", key), ("metric", "==", metric)]
    table = read_table(directory / CURVES, MENDING, columns=["value"], filters=conditions)
    return torch.from_numpy(table["value"].to_numpy().copy())


def curve_table(
    curves: Mapping[str, Mapping[str, Array]], first: Mapping[str, int] | None = None
) -> pa.Table:
    """Curves ``{key: {metric: values}}`` as a long table: configuration, step, metric, value.

    `first` are the steps taken before, by key; without it the first value is that of step 1.
    """
    before = first or {}
    pieces = [(key, name, values) for key, named in curves.items() for name, values in named.items()]
    sizes = [len(values) for _, _, values in pieces]
    total = np.concatenate([np.zeros(0), *(values for _, _, values in pieces)])
    starts = [before.get(key, 0) for key, _, _ in pieces]
    steps = [
        np.arange(1, size + 1, dtype=np.int64) + start for size, start in zip(sizes, starts, strict=True)
    ]
    keys, known = list(curves), {key: place for place, key in enumerate(curves)}
    return pa.table(
        {
            "configuration": _coded([known[key] for key, _, _ in pieces], sizes, keys),
            "step": np.concatenate(steps) if steps else np.zeros(0, np.int64),
            "metric": _coded([METRICS.index(name) for _, name, _ in pieces], sizes, list(METRICS)),
            "value": total,
        }
    )


def _coded(codes: Sequence[int], sizes: Sequence[int], names: Sequence[str]) -> Any:
    indices = np.repeat(np.asarray(codes, dtype=np.int32), np.asarray(sizes, dtype=np.int64))
    return pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(names, pa.string()))
