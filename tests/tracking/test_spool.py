from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from vi_dist.tracking.records import Note, decode, encode
from vi_dist.tracking.spool import RECORDS, Spool, SpoolReader, pending
from vi_dist.tracking.state import STATE, State

ONE, TWO, THREE = (encode(Note(text, 1)) for text in ("one", "two", "three"))


def spooled(directory: Path, *lines: bytes) -> Spool:
    spool = Spool(directory)
    for line in lines:
        spool.append(line)
    return spool


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    spool = spooled(tmp_path, ONE, TWO)
    reader = SpoolReader(tmp_path / RECORDS)
    assert reader.read() == [ONE, TWO]
    assert reader.read() == []
    spool.append(THREE)
    assert reader.read() == [THREE]
    assert pending(tmp_path / RECORDS, len(ONE)) == 2
    spool.close()


@pytest.mark.parametrize("torn", range(1, len(TWO) - 1, 7))
def test_a_torn_last_line_is_removed(tmp_path: Path, torn: int) -> None:
    spooled(tmp_path, ONE, TWO[:torn]).close()
    spooled(tmp_path, THREE).close()
    assert (tmp_path / RECORDS).read_bytes() == ONE + THREE


def test_a_last_line_that_lacks_only_its_end_is_kept(tmp_path: Path) -> None:
    spooled(tmp_path, ONE, TWO[:-1]).close()
    spooled(tmp_path, THREE).close()
    assert (tmp_path / RECORDS).read_bytes() == ONE + TWO + THREE


def test_a_torn_line_longer_than_a_block_is_removed(tmp_path: Path) -> None:
    long = encode(Note("x" * 200_000))
    spooled(tmp_path, ONE, long[:-100]).close()
    spooled(tmp_path).close()
    assert (tmp_path / RECORDS).read_bytes() == ONE


def test_a_reader_waits_for_the_rest_of_a_line(tmp_path: Path) -> None:
    spool = spooled(tmp_path, ONE + TWO[:5])
    reader = SpoolReader(tmp_path / RECORDS)
    assert reader.read() == [ONE]
    assert reader.read() == []
    spool.append(TWO[5:])
    assert reader.read() == [TWO]
    spool.close()


def test_a_reader_takes_a_line_longer_than_its_limit(tmp_path: Path) -> None:
    long = encode(Note("x" * 5000))
    spooled(tmp_path, long, ONE).close()
    reader = SpoolReader(tmp_path / RECORDS)
    assert reader.read(limit=100) == [long]
    assert reader.read(limit=100) == [ONE]


def test_a_reader_foresees_the_end(tmp_path: Path) -> None:
    end = b'{"kind": "Note", "text": "two"'
    spool = spooled(tmp_path, ONE)
    reader = SpoolReader(tmp_path / RECORDS)
    assert not reader.foresees(end)
    spool.append(TWO)
    assert reader.foresees(end)
    reader.offset = len(ONE)
    assert reader.foresees(end)
    reader.read()
    spool.append(THREE)
    assert not reader.foresees(end)
    spool.close()


def test_a_full_disk_tears_no_line(tmp_path: Path) -> None:
    # The limit on a file's size stands for a full disk: the system writes what fits, then fails.
    script = f"""
import resource, signal
from pathlib import Path
from vi_dist.tracking.spool import Spool
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({len(ONE) + 10}, {resource.RLIM_INFINITY}))
spool = Spool(Path({str(tmp_path)!r}))
spool.append({ONE!r})
try:
    spool.append({TWO!r})
except OSError:
    raise SystemExit(7)
"""
    child = os.spawnlp(os.P_WAIT, os.sys.executable, os.sys.executable, "-c", script)  # type: ignore[attr-defined]
    assert child == 7
    assert (tmp_path / RECORDS).read_bytes() == ONE


def test_state_survives_and_a_broken_one_starts_over(tmp_path: Path) -> None:
    state = State(offset=12, sweep="s", run_ids={"k": "r"}, dropped=3)
    state.refuse("no")
    state.save(tmp_path)
    assert State.load(tmp_path) == state
    (tmp_path / STATE).write_text('{"offset": 1')
    assert State.load(tmp_path) == State()


def test_lines_are_records(tmp_path: Path) -> None:
    spooled(tmp_path, ONE, TWO).close()
    assert [decode(line) for line in SpoolReader(tmp_path / RECORDS).read()] == [
        Note("one", 1),
        Note("two", 1),
    ]
