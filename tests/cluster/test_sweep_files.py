"""Tables of a sweep under way are written now and then; what they lack after a crash is there after a resume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest

from vi_dist.cluster.driver import Driver
from vi_dist.cluster.inline_executor import InlineExecutor
from vi_dist.cluster.journal import Journal
from vi_dist.cluster.observer import Observer
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.rungs import pack_runs
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.sweep_files import SweepFiles
from vi_dist.report.sweep_directory import read_leaderboard
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.plan import Pack

PACKS = 4


class Killed(BaseException):
    """The end of a driver's process."""


class KilledAfter(Observer):
    """Ends the driver once it has heard of the end of so many packs."""

    def __init__(self, packs: int) -> None:
        self.left = packs

    def pack_ended(self, run: PackRun) -> None:
        self.left -= 1
        if not self.left:
            raise Killed


@pytest.fixture
def configurations(configuration: Callable[..., Configuration]) -> Sequence[Configuration]:
    return [configuration(learning_rate=0.01 * (k + 1), steps=8) for k in range(PACKS)]


def run(directory: Path, setup: Setup, configurations: Sequence[Configuration], *observers: Observer) -> Path:
    """A sweep with a journal, a pack a configuration, until it ends or is killed."""
    packs = [Pack(k, 1, (k,)) for k in range(PACKS)]
    files = SweepFiles(directory, [f"key{k}" for k in range(PACKS)])
    journal = Journal(InlineExecutor(), files.journal)
    try:
        Driver(pack_runs(packs, configurations), setup, journal, [files, *observers]).run()
    finally:
        journal.close()
    files.write_tables()
    return directory


def test_a_crash_between_two_leaderboards_loses_no_row(
    toy_setup: Callable[..., Setup], configurations: Sequence[Configuration], tmp_path: Path
) -> None:
    setup = toy_setup(samples=64)
    with pytest.raises(Killed):
        run(tmp_path / "killed", setup, configurations, KilledAfter(3))
    assert len(read_leaderboard(tmp_path / "killed")) == 1  # the first pack's; the next is due in seconds
    resumed = read_leaderboard(run(tmp_path / "killed", setup, configurations))
    whole = read_leaderboard(run(tmp_path / "whole", setup, configurations))
    assert len(resumed) == PACKS
    pd.testing.assert_frame_equal(resumed.drop(columns="seconds"), whole.drop(columns="seconds"))


def test_the_leaderboard_is_as_new_as_its_rest_allows(
    toy_setup: Callable[..., Setup],
    configurations: Sequence[Configuration],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vi_dist.cluster.sweep_files.REST_SECONDS", 0.0)
    monkeypatch.setattr("vi_dist.cluster.sweep_files.REST_SHARE", 0)
    with pytest.raises(Killed):
        run(tmp_path, toy_setup(samples=64), configurations, KilledAfter(3))
    assert len(read_leaderboard(tmp_path)) == 3
