"""The sum over shards in processes of their own, by `torch.distributed`."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Sequence

import torch
from torch import Tensor

TIMEOUT_SECONDS = 600.0
"""How long a shard waits for the others; one that died is noticed at once."""


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
        summed = part.detach().to(self._device).contiguous().clone()
        try:
            self._distributed.all_reduce(summed)
        except RuntimeError as error:
            raise GroupBroken(str(error).split("\n")[0]) from error
        return summed.to(part.device)

    def leave(self) -> None:
        """End this process's part; the others' next sum fails."""
        self._distributed.destroy_process_group()


def free_address() -> str:
    """An address on this machine for a group to meet at."""
    host = socket.gethostbyname(socket.gethostname())
    with socket.socket() as probe:
        probe.bind(("", 0))
        return f"tcp://{host}:{probe.getsockname()[1]}"
