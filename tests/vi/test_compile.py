from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from vi_dist.vi.compile import compile_graph, decide, lift_constants, program_key
from vi_dist.vi.graph import trace


def _graph(data: torch.Tensor) -> tuple[torch.fx.GraphModule, torch.Tensor]:
    x = torch.arange(4.0, dtype=torch.float64)
    return trace(lambda z: ((data @ z).exp().sum(),), x), x


def test_lifted_constants_are_inputs_and_the_key_does_not_depend_on_their_values() -> None:
    one, x = _graph(torch.ones(3, 4, dtype=torch.float64))
    two, _ = _graph(torch.full((3, 4), 2.0, dtype=torch.float64))
    lifted, constants = lift_constants(one)
    other, others = lift_constants(two)
    assert not any(node.op == "get_attr" for node in lifted.graph.nodes)
    torch.testing.assert_close(lifted(x, *constants), one(x))
    assert program_key(lifted, (x, *constants)) == program_key(other, (x, *others))
    assert program_key(lifted, (x, *constants)) != program_key(lifted, (x.float(), *constants))


@pytest.mark.slow
def test_a_second_compilation_of_the_same_program_is_a_look_into_the_cache(tmp_path: Path) -> None:
    graph, x = _graph(torch.ones(3, 4, dtype=torch.float64))
    first = compile_graph(graph, (x,), tmp_path)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.pt2")}
    other, _ = _graph(torch.full((3, 4), 2.0, dtype=torch.float64))
    second = compile_graph(other, (x,), tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.pt2")} == made
    assert len(made) == 1
    torch.testing.assert_close(first(x), graph(x))
    torch.testing.assert_close(second(x), other(x))


def test_the_decision_weighs_the_steps_ahead_against_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = _graph(torch.ones(3, 4, dtype=torch.float64))
    assert not decide("auto", graph, 10).compiled
    assert decide("auto", graph, 10**8).compiled
    assert decide("always", graph, 1).compiled
    assert not decide("never", graph, 10**8).compiled
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("PATH", os.devnull)
    without = decide("always", graph, 10**8)
    assert not without.compiled
    assert "compiler" in without.reason
