"""What a sweep tells its tracker: small frozen records, one JSON line each, with timestamps fixed at birth.

A record is complete in itself: whoever reads the line later (the writer, a restarted writer, a replay days
afterwards) sends the same names, steps, values and timestamps, so that sending twice stores once.
"""

from __future__ import annotations

import json
import re
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

_CHECKSUM = "crc32"
# A line of an earlier version ends without one.
_MARKED = re.compile(rb'(.*), "crc32": "([0-9a-f]{8})"\}', re.DOTALL)
Status = Literal["finished", "stopped", "diverged", "failed", "interrupted"]
Point = tuple[str, int, float, int]
"""One value of a curve: metric, optimizer step, value, timestamp in milliseconds."""

MLFLOW_STATUS: Mapping[str, str] = {
    "finished": "FINISHED",
    "stopped": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
"""MLflow has fewer words than we have; the tags ``vi.status`` and ``vi.reason`` keep ours."""


def now_ms() -> int:
    """Wall-clock time in milliseconds, the unit MLflow keeps."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class SweepStarted:
    """A sweep begins, or goes on after a restart: one parent run in the experiment of the sweep's name.

    Args:
        sweep: identifies the sweep for ever; the same id finds the same runs again.
        experiment: the MLflow experiment, that is, the sweep's name.
        name: the parent run's name.
        params: the spec, flattened.
        tags: ``provenance.source_tags`` and the sweep's own; those named ``mlflow.*`` pass to the children.
        timestamp_ms: when it happened.
    """

    sweep: str
    experiment: str
    name: str
    params: Mapping[str, object] = field(default_factory=dict)
    tags: Mapping[str, object] = field(default_factory=dict)
    timestamp_ms: int = field(default_factory=now_ms)


@dataclass(frozen=True)
class RunStarted:
    """A configuration begins, or begins again with a higher attempt: one child run per key."""

    key: str
    name: str
    params: Mapping[str, object] = field(default_factory=dict)
    tags: Mapping[str, object] = field(default_factory=dict)
    attempt: int = 1
    timestamp_ms: int = field(default_factory=now_ms)


@dataclass(frozen=True)
class Metrics:
    """Points of one configuration's curves (``key=None``: of the sweep itself, such as ``best/elbo``)."""

    key: str | None
    points: Sequence[Point]
    timestamp_ms: int = field(default_factory=now_ms)


@dataclass(frozen=True)
class RunEnded:
    """A configuration's end: how, why, and its final metrics (``final/elbo``, ...), stored at step 0."""

    key: str
    status: Status
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, object] = field(default_factory=dict)
    timestamp_ms: int = field(default_factory=now_ms)


@dataclass(frozen=True)
class Artifact:
    """A file or directory to keep with a run (``key=None``: with the sweep), by absolute path.

    ``table=True`` shows a Parquet file as a table in the run's page too.
    """

    path: str
    folder: str = ""
    key: str | None = None
    table: bool = False
    timestamp_ms: int = field(default_factory=now_ms)


@dataclass(frozen=True)
class GuideLogged:
    """A saved fit to keep as a loadable MLflow model.

    Args:
        key: the configuration it came from.
        directory: what ``Fit.save`` wrote, by absolute path.
        name: the model's name, distinct within the sweep.
        columns: the columns that ``predict`` returns, if known (``beta[0]``, ...).
        register: a registered model's name, of which this guide becomes a version.
        timestamp_ms: when it happened.
        merits: what the version is known for (`champion.Merits.to_tags`).
        alias: when the alias ``champion`` moves to it: if it is ``earned`` (`champion.why_it_stays`), or ``always``.
    """

    key: str
    directory: str
    name: str
    columns: Sequence[str] = ()
    register: str = ""
    timestamp_ms: int = field(default_factory=now_ms)
    merits: Mapping[str, object] = field(default_factory=dict)
    alias: Literal["earned", "always"] = "earned"


@dataclass(frozen=True)
class Tags:
    """Tags for a run that may have ended (``key=None``: for the sweep's own), such as the verdict on the winner."""

    key: str | None
    tags: Mapping[str, object]
    timestamp_ms: int = field(default_factory=now_ms)


@dataclass(frozen=True)
class Note:
    """Markdown for the sweep's page; a link to ``run:<key>`` leads to that configuration's run."""

    text: str
    timestamp_ms: int = field(default_factory=now_ms)


@dataclass(frozen=True)
class PacksEnded:
    """Nothing is being fitted any more: the writer need not leave the processor to others, and somebody waits."""

    timestamp_ms: int = field(default_factory=now_ms)


@dataclass(frozen=True)
class SweepEnded:
    """The sweep is over: every child still open is closed with this status, and so is the parent."""

    status: Status
    reason: str = ""
    timestamp_ms: int = field(default_factory=now_ms)


Record = (
    SweepStarted
    | RunStarted
    | Metrics
    | RunEnded
    | Artifact
    | PacksEnded
    | GuideLogged
    | Tags
    | Note
    | SweepEnded
)
KINDS: Mapping[str, type[Record]] = {
    kind.__name__: kind
    for kind in (
        SweepStarted,
        RunStarted,
        Metrics,
        RunEnded,
        Artifact,
        PacksEnded,
        GuideLogged,
        Tags,
        Note,
        SweepEnded,
    )
}


def encode(record: Record) -> bytes:
    """The record as one JSON line; numbers of numpy and torch become plain ones.

    Raises:
        TypeError: the record holds a value that JSON has no form for.
    """
    line = json.dumps({"kind": type(record).__name__, **vars(record)}, default=_plain)
    content = line.removesuffix("}").encode()
    return content + f', "{_CHECKSUM}": "{zlib.crc32(content):08x}"}}\n'.encode()


def decode(line: bytes) -> Record:
    """The record that ``encode`` wrote.

    Raises:
        ValueError: the line is torn, damaged or not a record.
    """
    if marked := _MARKED.fullmatch(line.rstrip(b"\n")):
        if zlib.crc32(marked[1]) != int(marked[2], 16):
            raise ValueError(f"a record does not match its checksum: {line[:80]!r}")
        line = marked[1] + b"}"
    fields: Any = json.loads(line)
    if not isinstance(fields, dict) or fields.get("kind") not in KINDS:
        raise ValueError(f"not a tracking record: {line[:80]!r}")
    try:
        return KINDS[fields.pop("kind")](**fields)
    except TypeError as fault:
        raise ValueError(f"not a tracking record: {line[:80]!r} ({fault})") from fault


def _plain(value: Any) -> object:
    """A number of numpy or torch as Python's own, a mapping as a dict, anything else as text."""
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
