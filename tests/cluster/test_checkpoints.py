"""Checkpoints of shards: a damaged part is named, and its pack takes its steps again."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import torch

from vi_dist.cluster.checkpoints import Checkpoints, set_damaged_aside
from vi_dist.cluster.inline_executor import InlineExecutor
from vi_dist.cluster.journal import Journal
from vi_dist.errors import DamagedFile
from vi_dist.vi.state import PackState


def state(value: float) -> PackState:
    return PackState(*(torch.full((2, 3), value) for _ in fields(PackState)))


@pytest.mark.parametrize("broken", [b"", b"cut", b"flipped"])
def test_a_damaged_part_is_named_and_its_pack_begins_again(tmp_path: Path, broken: bytes) -> None:
    for pack in (3, 12):
        kept = Checkpoints(str(tmp_path), pack, 2)
        for rank in range(2):
            kept.write(40, rank, state(pack + rank))
        assert kept.newest(50) == 40
        assert [float(one.params[0, 0]) for one in kept.read(40, [0, 1])] == [pack, pack + 1]
    assert set_damaged_aside(str(tmp_path)) == set()
    file = tmp_path / "checkpoints" / "pack-12" / "step-40-shard-1.safetensors"
    whole = file.read_bytes()
    content = {b"cut": whole[:-9], b"flipped": whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:]}.get(
        broken, b""
    )
    file.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"step-40-shard-1\.safetensors: is damaged: .*; vi-dist resume"):
        Checkpoints(str(tmp_path), 12, 2).read(40, [0, 1])
    assert set_damaged_aside(str(tmp_path)) == {12}
    assert Checkpoints(str(tmp_path), 12, 2).newest(50) == 0
    assert Checkpoints(str(tmp_path), 3, 2).newest(50) == 40
    assert (file.parent / f"{file.name}.damaged").read_bytes() == content

    journal = tmp_path / "sweep" / "journal"
    journal.mkdir(parents=True)
    for pack in (3, 12):
        (journal / f"{pack}.answers").write_bytes(b"")
    Journal(InlineExecutor(), journal, {12}).close()
    assert sorted(one.name for one in journal.glob("*.answers")) == ["3.answers"]
    assert [one.name for one in (tmp_path / "sweep" / "set-aside").iterdir()] == ["journal-12.answers.1"]
