"""What is whole in a sweep's directory, what is damaged or missing, and what was set aside."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from vi_dist.checked_files import SET_ASIDE, check
from vi_dist.errors import DamagedFile
from vi_dist.framed import read_records, unframed
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
    WINNER,
    read_leaderboard,
)
from vi_dist.tracking.environment import database
from vi_dist.tracking.records import decode
from vi_dist.tracking.spool import RECORDS
from vi_dist.tracking.state import STATE, State
from vi_dist.tracking.sync import stored_uri
from vi_dist.tracking.writer import TRACKER

WHOLE, UNCHECKED, DAMAGED, MISSING, ASIDE = "whole", "no checksum", "damaged", "missing", "set aside"
SENDING = "vi-dist sync sends again what the spool holds"
REPLAYED = "vi-dist resume computes it again"
CHECKPOINTS = "checkpoints"
_FIT = ("fit.json", "guide.json", "params.safetensors", "losses.safetensors")
_MAP = ("constrain.json", "constrain.safetensors")


@dataclass(frozen=True)
class FileHealth:
    """How one file of a sweep is.

    Attributes:
        name: its path in the sweep's directory; absolute for a file elsewhere.
        state: ``whole``, ``no checksum``, ``damaged``, ``missing`` or ``set aside``.
        words: what is wrong, and the cure; empty where nothing is.
    """

    name: str
    state: str
    words: str = ""

    @property
    def ill(self) -> bool:
        """Whether something has to be done about it."""
        return self.state in (DAMAGED, MISSING)


def examine(directory: Path) -> list[FileHealth]:
    """Every file of a sweep that anything reads back, by name; nothing is changed."""
    found = [*examine_results(directory), *_journal(directory), *_tracking(directory)]
    aside = [
        FileHealth(f"{SET_ASIDE}/{file.name}", ASIDE) for file in sorted((directory / SET_ASIDE).glob("*"))
    ]
    return found + aside


def examine_results(directory: Path) -> list[FileHealth]:
    """The files that hold a sweep's plan and results."""
    under_way = (directory / JOURNAL).is_dir()
    needed = [SPEC, PLAN]
    if (directory / ORIGIN).exists() or _is_marked(directory / PLAN):
        needed.append(ORIGIN)
    if not under_way:
        needed += [LEADERBOARD, CURVES, SUMMARY, *_guides(directory)]
    optional = [name for name in (LEADERBOARD, CURVES, SUMMARY, RUNGS, WINNER) if (directory / name).exists()]
    for pattern in (f"{GUIDES}/*.safetensors", f"{PACKS}/*.parquet"):
        optional += [str(file.relative_to(directory)) for file in sorted(directory.glob(pattern))]
    for fit in sorted(directory.glob(f"{FITS}/*/")):
        has_map = any((fit / name).exists() for name in _MAP)
        needed += [f"{FITS}/{fit.name}/{name}" for name in (*_FIT, *(_MAP if has_map else ()))]
    return [_checked(directory, name) for name in dict.fromkeys([*needed, *optional])]


def _is_marked(file: Path) -> bool:
    try:
        return check(file)
    except (FileNotFoundError, DamagedFile):
        return True


def _guides(directory: Path) -> list[str]:
    """The guides that a leaderboard speaks of: finished configurations have one."""
    try:
        frame = read_leaderboard(directory)
    except (FileNotFoundError, DamagedFile):
        return []
    return [f"{GUIDES}/{key}.safetensors" for key in frame.loc[frame["status"] == "finished", "key"]]


def _checked(directory: Path, name: str) -> FileHealth:
    try:
        return FileHealth(name, WHOLE if check(directory / name, MENDING) else UNCHECKED)
    except FileNotFoundError:
        return FileHealth(name, MISSING, f"is missing; {MENDING}")
    except DamagedFile as error:
        return FileHealth(name, DAMAGED, error.message)


def _journal(directory: Path) -> Iterator[FileHealth]:
    """Answers, states and checkpoints of a sweep that is not over."""
    records: dict[str, Callable[[bytes], str]] = {
        f"{JOURNAL}/*.answers": lambda content: read_records(content).fault,
        f"{JOURNAL}/*.state": _fault_of_one,
        f"{CHECKPOINTS}/*/*.safetensors": _fault_of_one,
    }
    for pattern, fault_of in records.items():
        for file in sorted(directory.glob(pattern)):
            fault = fault_of(file.read_bytes())
            words = f"is damaged: {fault}; {REPLAYED}" if fault else ""
            yield FileHealth(str(file.relative_to(directory)), DAMAGED if fault else WHOLE, words)


def _fault_of_one(content: bytes) -> str:
    try:
        unframed(content)
    except ValueError as error:
        return str(error)
    return ""


def _tracking(directory: Path) -> Iterator[FileHealth]:
    """The spool, and the store on this machine that it goes to."""
    spool = directory / SPOOL
    if not spool.is_dir():
        return
    for name in (TRACKER, STATE):
        if name == TRACKER or (spool / name).exists():
            found = _checked(directory, f"{SPOOL}/{name}")
            yield FileHealth(found.name, found.state, found.words.replace(MENDING, SENDING))
    records = spool / RECORDS
    if records.exists():
        bad = list(_bad_lines(records))
        words = f"is damaged in line {', '.join(map(str, bad[:5]))}: {SENDING}, without these" if bad else ""
        yield FileHealth(f"{SPOOL}/{RECORDS}", DAMAGED if bad else WHOLE, words)
    yield from _store(spool)


def _bad_lines(records: Path) -> Iterator[int]:
    with records.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                decode(line)
            except ValueError:
                yield number


def _store(spool: Path) -> Iterator[FileHealth]:
    file = database(stored_uri(spool))
    if file is None or not State.load(spool).offset:
        return
    if not file.is_file():
        yield FileHealth(str(file), MISSING, f"is missing; {SENDING}")
        return
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            ((fault, *_), *_) = connection.execute("pragma quick_check(1)").fetchall()
    except sqlite3.Error as error:
        fault = str(error)
    sound = fault == "ok"
    words = "" if sound else f"is damaged: {fault}; remove it, and {SENDING}"
    yield FileHealth(str(file), WHOLE if sound else DAMAGED, words)
