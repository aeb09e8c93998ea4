"""The log joint of many rows, for evaluation: batches of one size, through one flat and perhaps compiled graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vi_dist.vi.compile import Decision, compile_graph, decide
from vi_dist.vi.compile_checked import apart, check_agreement, compile_checked, nudged
from vi_dist.vi.graph import trace
from vi_dist.vi.trace import JointProgram

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
        if not decision.compiled:
            return decision
        make = partial(compile_graph, self._graph, (self._example(),), cache)
        graph: Callable[..., tuple[Tensor, ...]] = self._graph
        run, fault = compile_checked(make, self._check, graph)
        self._run = run
        return Decision(False, fault) if fault else decision

    def _check(self, made: Callable[..., tuple[Tensor, ...]]) -> None:
        example = apart(self._example(), by=1.0)
        with torch.no_grad():
            found, expected, rounded = (
                {"log density": run(rows)[0]}
                for run, rows in ((made, example), (self._graph, example), (self._graph, nudged(example)))
            )
        check_agreement(found, expected, rounded)

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
