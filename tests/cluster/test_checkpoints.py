"""Checkpoints of shards: a damaged part is named, and its pack goes on from the one before."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import torch

from vi_dist.cluster.checkpoints import Checkpoints, set_damaged_aside
from vi_dist.errors import DamagedFile
from vi_dist.vi.state import PackState


def state(value: float) -> PackState:
    return PackState(*(torch.full((2, 3), value) for _ in fields(PackState)))


@pytest.mark.parametrize("broken", [b"", b"cut", b"flipped"])
def test_a_damaged_part_is_named_and_its_pack_is_known(tmp_path: Path, broken: bytes) -> None:
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


def test_the_two_newest_whole_checkpoints_stay(tmp_path: Path) -> None:
    kept = Checkpoints(str(tmp_path), 0, 2)
    for steps in (10, 20, 30, 40):
        kept.write(steps, 0, state(steps))
        if steps != 40:
            kept.write(steps, 1, state(steps))
        kept.forget_old()
    assert [kept.newest(steps) for steps in (19, 29, 39, 40)] == [0, 20, 30, 30]
    assert len(list((tmp_path / "checkpoints").rglob("*.safetensors"))) == 5
