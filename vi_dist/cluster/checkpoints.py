"""Parts of a pack's state, written by the shards that hold them, to any place that fsspec knows."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import fsspec
import torch
from fsspec.implementations.local import LocalFileSystem

from vi_dist.checked_files import reach_disk
from vi_dist.cluster.fault import one_line
from vi_dist.errors import DamagedFile, SpecError
from vi_dist.framed import framed, unframed
from vi_dist.vi.state import PackState

log = logging.getLogger(__name__)

_PART = re.compile(r"pack-(\d+)/step-(\d+)-shard-(\d+)\.safetensors$")


def check_writable(directory: str | None) -> None:
    """Raise `SpecError` if checkpoints cannot be written to a directory, any fsspec path; None is the sweep's own."""
    if directory is None:
        return
    try:
        files, root = fsspec.core.url_to_fs(directory)
        files.makedirs(root, exist_ok=True)
        probe = f"{root}/probe-{uuid.uuid4().hex}"
        files.pipe_file(probe, b"checkpoints will stand here")
        files.rm_file(probe)
    except Exception as error:  # every file system has its own
        raise SpecError(
            f"nothing can be written to {directory!r} ({one_line(error)}); name a folder that all actors can write to",
            key="checkpoint_dir",
        ) from error


def forget_all(directory: str) -> None:
    """Remove the checkpoints of all packs of a sweep that is over."""
    files, root = fsspec.core.url_to_fs(directory)
    if files.exists(f"{root}/checkpoints"):
        files.rm(f"{root}/checkpoints", recursive=True)


def set_damaged_aside(directory: str) -> set[int]:
    """The packs of a sweep that have a damaged part of a checkpoint, which is named and renamed to ``*.damaged``.

    Such a pack goes on from the checkpoint before, or from its start, and takes the steps from there again.
    """
    files, root = fsspec.core.url_to_fs(directory)
    packs: set[int] = set()
    if not files.exists(f"{root}/checkpoints"):
        return packs
    for path in files.find(f"{root}/checkpoints"):
        match = _PART.search(path)
        if match is None:
            continue
        try:
            unframed(files.cat_file(path))
        except ValueError as error:
            log.warning("%s is damaged (%s) and is kept as %s.damaged", path, error, path)
            files.mv(path, f"{path}.damaged")
            packs.add(int(match[1]))
    return packs


class Checkpoints:
    """The states of one pack, by number of steps taken; one is whole when every shard has written its part.

    The two newest whole ones stay: where one is damaged, there is the one before.

    Args:
        directory: of the sweep, any fsspec path.
        pack: the pack's number.
        shards: how many parts a whole one has.
    """

    def __init__(self, directory: str, pack: int, shards: int) -> None:
        self._files, root = fsspec.core.url_to_fs(directory)
        self._root, self._shards = f"{root}/checkpoints/pack-{pack}", shards

    def write(self, steps: int, rank: int, state: PackState) -> None:
        """Keep a shard's part; a part is there whole or not at all, and on this machine's disk after its content."""
        path = self._path(steps, rank)
        self._files.makedirs(self._root, exist_ok=True)
        with self._files.open(f"{path}.part", "wb") as stream:
            stream.write(framed(state.to_bytes()))
        on_disk = isinstance(self._files, LocalFileSystem)
        if on_disk:
            reach_disk(Path(f"{path}.part"))
        self._files.mv(f"{path}.part", path)
        if on_disk:
            reach_disk(Path(self._root))

    def read(self, steps: int, ranks: Sequence[int], device: torch.device | str = "cpu") -> list[PackState]:
        """The parts of some shards, on a device. Raises `DamagedFile` for one that is not what was written."""
        states = []
        for rank in ranks:
            path = self._path(steps, rank)
            try:
                content = unframed(self._files.cat_file(path))
            except ValueError as error:
                cure = "vi-dist resume takes its steps again"
                raise DamagedFile(f"is damaged: {error}", path=path, cure=cure) from error
            states.append(PackState.from_bytes(content, device))
        return states

    def newest(self, steps: int) -> int:
        """Steps of the newest whole checkpoint that is no later than `steps`; 0 if there is none."""
        return max((step for step in self._whole(self._there()) if step <= steps), default=0)

    def forget_old(self) -> None:
        """Remove what was written before the two newest whole checkpoints."""
        there = self._there()
        kept = self._whole(there)[-2:]
        for step, ranks in there.items():
            for rank in ranks if len(kept) == 2 and step < kept[0] else ():
                self._files.rm_file(self._path(step, rank))

    def _whole(self, there: Mapping[int, set[int]]) -> list[int]:
        """Steps of the checkpoints of which every part is there, in order."""
        return sorted(step for step, ranks in there.items() if len(ranks) == self._shards)

    def _path(self, steps: int, rank: int) -> str:
        return f"{self._root}/step-{steps}-shard-{rank}.safetensors"

    def _there(self) -> dict[int, set[int]]:
        found: dict[int, set[int]] = {}
        self._files.invalidate_cache()
        if not self._files.exists(self._root):
            return found
        for path in self._files.ls(self._root, detail=False):
            if match := _PART.search(path):
                found.setdefault(int(match[2]), set()).add(int(match[3]))
        return found
