"""Steps on a CUDA device, recorded once as a CUDA graph and replayed: one launch from the host for many steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Runs before recording: libraries make their handles and workspaces at first use, which may not be recorded.
_WARM_UPS = 2


class Replay:
    """Several steps in a row as one CUDA graph; called like what `compile_steps` gives.

    The graph reads and writes tensors of its own, so inputs are copied in, and carried tensors and records copied out.
    Nothing waits for the device.

    Args:
        step: one step, from carried tensors, one tensor that differs between steps and further ones that do not, to the
            carried tensors and records. It may neither wait for the device nor depend on values.
        inputs: an example of each input.
        carried: how many tensors a step hands to the next.
        steps: K, how many are recorded: the differing input and the records get an axis of K in front.

    Raises `RuntimeError` for a step that cannot be recorded.
    """

    def __init__(
        self, step: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], carried: int, steps: int
    ) -> None:
        self._step, self._carried = step, carried
        varying = inputs[carried].expand(steps, *inputs[carried].shape)
        self._inputs = [t.clone() for t in (*inputs[:carried], varying, *inputs[carried + 1 :])]
        # What was copied in last: tensors that stay the same between calls are copied once.
        self._given: list[Tensor | None] = [None] * len(self._inputs)
        self._device = inputs[0].device
        self._graph = torch.cuda.CUDAGraph()
        before = torch.cuda.current_stream(self._device)
        with torch.no_grad(), torch.cuda.device(self._device):
            self._warm_up(inputs)
            try:
                # A stream of this device: the default one belongs to the device that recorded first. Other threads of
                # the process may use the device meanwhile.
                with torch.cuda.graph(
                    self._graph, stream=torch.cuda.Stream(), capture_error_mode="thread_local"
                ):
                    self._records = self._record()
            finally:
                # Where recording fails, torch leaves the thread on the recording's stream.
                torch.cuda.set_stream(before)

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Carried tensors after K steps, and their records."""
        changed = [place for place, tensor in enumerate(tensors) if tensor is not self._given[place]]
        torch._foreach_copy_(
            [self._inputs[place] for place in changed], [tensors[place] for place in changed]
        )
        self._given[self._carried + 1 :] = tensors[self._carried + 1 :]
        with torch.cuda.device(self._device):
            self._graph.replay()
        return tuple(t.clone() for t in (*self._inputs[: self._carried], *self._records))

    def _warm_up(self, inputs: Sequence[Tensor]) -> None:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                self._step(*inputs)
        torch.cuda.current_stream().wait_stream(aside)

    def _record(self) -> tuple[Tensor, ...]:
        """Take the steps, as they are recorded, and leave the carried tensors where the next call finds them."""
        carried, (varying, *rest) = self._inputs[: self._carried], self._inputs[self._carried :]
        now: Sequence[Tensor] = carried
        records: list[Sequence[Tensor]] = []
        for one in varying:
            out = self._step(*now, one, *rest)
            now = out[: self._carried]
            records.append(out[self._carried :])
        # By way of clones, because what a step returns may be what it was given, at another place.
        torch._foreach_copy_(carried, [t.clone() for t in now])
        return tuple(torch.stack(one) for one in zip(*records, strict=True))
