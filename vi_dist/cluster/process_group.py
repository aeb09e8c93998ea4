"""The sum over shards in processes of their own, by `torch.distributed`."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Sequence

import torch
from torch import Tensor

from vi_dist.vi.summed_joint import total

TIMEOUT_SECONDS = 600.0
"""How long a shard waits for the others; one that died is noticed at once."""


DIRECT_BYTES = 1 << 20
"""Up to so many bytes every process sends its part to every other: gloo's all-reduce hands a sum from thread to thread
and takes three times as long (300 against 80 us, two processes of one machine, 3 KB)."""


class GroupBroken(Exception):
    """A sum did not come about because another shard is gone, or gave up."""


class ProcessGroup:
    """This process's part of a group: gloo between CPUs, NCCL between GPUs.

    Args:
        rank: number of this process's shard.
        count: of shards.
        address: ``tcp://host:port`` of the first process.
        device: where the tensors are.
    """

    def __init__(self, rank: int, count: int, address: str, device: torch.device) -> None:
        from torch import distributed

        self._distributed, self._device = distributed, device
        self._rank, self._count = rank, count
        distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=address,
            rank=rank,
            world_size=count,
            timeout=datetime.timedelta(seconds=TIMEOUT_SECONDS),
        )

    def reduce(self, parts: Sequence[Tensor]) -> Tensor:
        """The sum over all shards of the one tensor that this process has, the same bits on all of them.

        Raises `GroupBroken` if another shard is gone.
        """
        (part,) = parts
        mine = part.detach().to(self._device).contiguous()
        direct = self._device.type == "cpu" and mine.numel() * mine.element_size() <= DIRECT_BYTES
        try:
            summed = self._exchanged(mine) if direct else self._reduced(mine.clone())
        except RuntimeError as error:
            raise GroupBroken(str(error).split("\n")[0]) from error
        return summed.to(part.device)

    def _exchanged(self, mine: Tensor) -> Tensor:
        """The sum of what all processes have, sent by each to each and added in their order, as in one process."""
        others = [rank for rank in range(self._count) if rank != self._rank]
        sent = [self._distributed.isend(mine, rank) for rank in others]
        parts = {rank: torch.empty_like(mine) for rank in others} | {self._rank: mine}
        for rank in others:
            self._distributed.recv(parts[rank], rank)
        for one in sent:
            assert one is not None, "this process is one of the group"
            one.wait()
        return total([parts[rank] for rank in range(self._count)])

    def _reduced(self, mine: Tensor) -> Tensor:
        self._distributed.all_reduce(mine)
        return mine

    def leave(self) -> None:
        """End this process's part; the others' next sum fails."""
        self._distributed.destroy_process_group()


def free_address() -> str:
    """An address on this machine for a group to meet at."""
    host = socket.gethostbyname(socket.gethostname())
    with socket.socket() as probe:
        probe.bind(("", 0))
        return f"tcp://{host}:{probe.getsockname()[1]}"
