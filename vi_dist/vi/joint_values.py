"""The log joint of many rows, for evaluation: batches of one size, through one flat and perhaps compiled graph."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from vi_dist.vi.agreement import apart, check_agreement
from vi_dist.vi.compile import Decision, compile_graph, decide
from vi_dist.vi.graph import trace
from vi_dist.vi.trace import JointProgram

log = logging.getLogger(__name__)

# Numbers in the largest intermediate of a batch: a megabyte of float64, which caches still hold.
_NUMBERS = 1 << 17
_FEWEST, _MOST = 16, 4096


class JointValues:
    """log p of rows `(B, D)`, B whatever it is.

    A row's value does not depend on the rows beside it: all batches have one size, the last one is filled up.

    Args:
        joint: the model's log joint over rows.
        size: numbers in a row, D.
        dtype: of every row.
    """

    def __init__(self, joint: JointProgram, size: int, dtype: torch.dtype = torch.float64) -> None:
        self.joint, self.size, self.dtype = joint, size, dtype
        fitting = _NUMBERS // max(1, joint.widest)
        self.batch = max(_FEWEST, min(_MOST, 1 << max(fitting, 1).bit_length() - 1))
        self._run: Callable[..., tuple[Tensor, ...]] | None = None
        if joint.mode == "flat":
            with torch.no_grad():
                self._graph = trace(lambda rows: (joint.value(rows),), self._example())
            self._run = self._graph

    def compile(self, mode: str, rows: int, cache: Path | None = None) -> Decision:
        """Compile if that pays for so many rows ahead; see `PackProgram.compile`."""
        if self._run is None:
            return Decision(False, f"the model runs as a loop over samples: {self.joint.reason}")
        decision = decide(mode, self._graph, -(-rows // self.batch))
        if decision.compiled:
            try:
                compiled = compile_graph(self._graph, (self._example(),), cache)
                example = apart(self._example(), by=1.0)
                with torch.no_grad():
                    check_agreement(compiled(example)[0], self._graph(example)[0])
                self._run = compiled
            except Exception as error:  # a compiler can fail in as many ways as there are machines
                log.warning("compilation failed, evaluation runs eagerly: %s", error)
                return Decision(False, f"compilation failed ({type(error).__name__})")
        return decision

    def __call__(self, rows: Tensor) -> Tensor:
        """Log joint `(B,)` of rows `(B, D)`."""
        with torch.no_grad():
            if self._run is None:
                return self.joint.value(rows)
            return torch.cat([self._whole(part) for part in rows.split(self.batch)])

    def _whole(self, part: Tensor) -> Tensor:
        assert self._run is not None
        missing = self.batch - part.shape[0]
        # Filled up with copies of a row, which is where the model has a density.
        whole = torch.cat((part, part[-1:].expand(missing, -1))) if missing else part.contiguous()
        return self._run(whole)[0][: part.shape[0]]

    def _example(self) -> Tensor:
        return torch.zeros(self.batch, self.size, dtype=self.dtype)
