"""Sending what a sweep left behind: its driver died, its server was away, its machine was restarted."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from vi_dist.checked_files import read_json, reading
from vi_dist.tracking.environment import check_server_named
from vi_dist.tracking.records import PacksEnded, SweepEnded, decode
from vi_dist.tracking.spool import RECORDS
from vi_dist.tracking.tracker import Tracker, TrackingSummary
from vi_dist.tracking.writer import TRACKER


def find_spool(directory: Path | str) -> Path:
    """The spool in a sweep's directory, or that of the newest sweep in an output directory.

    Raises:
        FileNotFoundError: no sweep was tracked there.
    """
    root = Path(directory).absolute()
    found = [path for pattern in (".", "spool", "*/spool") for path in root.glob(f"{pattern}/{TRACKER}")]
    if not found:
        raise FileNotFoundError(f"no sweep was tracked in {root}: it holds no spool/{TRACKER}")
    return max(found, key=lambda path: path.stat().st_mtime).parent


def stored_uri(spool: Path) -> str:
    """The tracking URI that a sweep went to. Raises `DamagedFile` if the file that says so is damaged."""
    file, cure = spool / TRACKER, "give the store again with --tracking-uri"
    data = read_json(file, cure)
    with reading(file, "the place of a store", cure):
        return str(data["tracking_uri"])


def named_uri(spool: Path) -> str:
    """The tracking URI that a sweep went to, to send more there; raises `SpecError` as `check_server_named`."""
    uri = stored_uri(spool)
    check_server_named(uri, spool)
    return uri


def sync(directory: Path | str, timeout: float = 60.0, tracking_uri: str | None = None) -> TrackingSummary:
    """Send the rest of a sweep's spool to MLflow and close its runs, as interrupted if they were left open.

    Args:
        directory: the sweep's directory, its spool, or an output directory (its newest sweep).
        timeout: seconds without progress after which waiting ends.
        tracking_uri: MLflow's; by default the one that the sweep began with.

    Returns:
        the summary; ``pending`` is 0 when everything is stored, ``error`` says what is in the way.

    Raises:
        FileNotFoundError: no sweep was tracked there.
        SpecError: credentials would be shown to a server that only the directory names.
    """
    spool = find_spool(directory)
    tracker = Tracker(spool, tracking_uri or named_uri(spool))
    records = spool / RECORDS
    if not records.exists() or not records.stat().st_size:
        return tracker.summary()
    tracker.start()
    # Whether the store still holds what it once took, the writer finds out; a record more makes us wait for that.
    tracker.write(PacksEnded() if _says_the_end(records) else SweepEnded("interrupted", "its driver died"))
    return tracker.close(timeout)


def _says_the_end(records: Path) -> bool:
    """Whether the last word about the sweep as a whole in the spool is that it ended."""
    ended = False
    with records.open("rb") as file:
        for line in file:
            if line.startswith(b'{"kind": "Sweep'):
                with suppress(ValueError):  # a damaged line, which the writer counts
                    ended = isinstance(decode(line), SweepEnded)
    return ended
