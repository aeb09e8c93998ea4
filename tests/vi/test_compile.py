from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vi_dist.vi.compile import (
    SAVED,
    compile_steps,
    compiling_seconds,
    decide,
    eager_seconds,
    program_key,
    steps_that_pay,
)
from vi_dist.vi.graph import finish_gathered, trace
from vi_dist.vi.lifted_constants import lift_constants


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
    assert program_key(lifted.code, (x, *constants)) == program_key(other.code, (x, *others))
    assert program_key(lifted.code, (x, *constants)) != program_key(lifted.code, (x.float(), *constants))


def test_small_constants_share_an_input_and_large_ones_no_memory() -> None:
    large, few, more = torch.randn(1100, 4), torch.randn(3, 4), torch.randn(4)
    x = torch.randn(4)
    graph = trace(lambda z: (large.t() @ (large @ z), few @ z + 1, more * z), x)
    lifted, constants = lift_constants(graph)
    assert sorted(t.numel() for t in constants) == [16, 4400, 4400]
    assert len({t.untyped_storage().data_ptr() for t in constants}) == 3
    for ours, theirs in zip(lifted(x, *constants), graph(x), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_what_is_gathered_from_is_computed_before() -> None:
    places, few = torch.tensor([1, 0, 1, 1]), torch.tensor([1])
    x = torch.randn(3, 2)
    graph = trace(lambda z: (z.exp()[:, places], z.exp()[:, few], z[:, places]), x)
    lifted, constants = lift_constants(graph)
    finish_gathered(lifted)
    assert [str(n.target) for n in lifted.graph.nodes].count("aten.as_strided.default") == 1
    for ours, theirs in zip(lifted(x, *constants), graph(x), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "gathered",
    [
        lambda z: z[1],
        lambda z: z.exp()[1],
        lambda z: z.exp().t()[1:, 1],
        lambda z: (z @ z.t())[2],
        lambda z: z[1].clone(),
        lambda z: z[1] ** 1,
        lambda z: (z[1] + 1).reshape(3, 1).expand(3, 2)[:, 1],
        lambda z: z[1] + torch.zeros_like(z[1]),
        lambda z: z[1] * (2 * torch.ones_like(z[1]) - torch.ones_like(z[1])),
        lambda z: z[1] / torch.full_like(z[1], 1),
    ],
)
def test_a_view_is_gathered_from_where_it_begins(gathered: Callable[[torch.Tensor], torch.Tensor]) -> None:
    places, x = torch.tensor([1, 0, 1, 1, 2, 0, 0]) % 2, torch.randn(3, 3)
    graph = trace(lambda z: (gathered(z)[places],), x)
    lifted, constants = lift_constants(graph)
    finish_gathered(lifted)
    assert torch.equal(lifted(x, *constants)[0], gathered(x)[places])
    # A compiler leaves out what changes nothing: then the view itself is what is gathered from.
    vanishing = str(graph.graph).count("_like") or "pow" in graph.code or "clone" in graph.code
    assert not vanishing or "as_strided" not in lifted.code


def _stepping(end: float) -> Callable[..., tuple[torch.Tensor, ...]]:
    """A step on data that reach from 0 to `end`."""
    # Data and their transpose are one memory under two names, which a loop does not take.
    data = torch.linspace(0, end, 4400, dtype=torch.float64).reshape(1100, 4)
    shift, places = torch.arange(4.0) * end, torch.tensor([3, 0, 0, 2, 1, 3])

    def step(
        state: torch.Tensor, number: torch.Tensor, noise: torch.Tensor, rate: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        gathered = (state.exp() * noise)[places].sin().sum() + torch.outer(state, noise)[1][places].sum()
        moved = state - rate * (data.t() @ (data @ (state + noise)).tanh() - shift * gathered) / 1100
        return moved, number + 1, moved.norm()

    return step


def test_a_step_that_hands_on_one_tensor_as_two_is_refused(tmp_path: Path) -> None:
    x = torch.ones(3)
    step = trace(lambda a, b, noise: (a + noise, a + noise, b.sum()), x, x, x)
    vary = trace(lambda a, b: (a * 2,), x, x)
    with pytest.raises(ValueError, match="one tensor as two"):
        compile_steps(step, vary, ((x, x), (), ()), 2, tmp_path)


@pytest.mark.slow
def test_steps_taken_in_one_call_are_the_steps_taken_one_by_one_and_other_data_compile_nothing(
    tmp_path: Path,
) -> None:
    """The second time, with other data, the same program comes out of the cache."""
    rate, key = torch.tensor(0.1, dtype=torch.float64), torch.tensor(7)
    first = (torch.ones(4, dtype=torch.float64), torch.tensor(3))

    def noise(_: torch.Tensor, number: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor]:
        words = torch.arange(4, dtype=torch.int32) + (number * key).to(torch.int32)
        words = (words ^ (words << 3)) + words
        return (words.to(torch.float64).sin(),)

    vary = trace(noise, *first, key)
    made = []
    for end in (1.0, 2.0):
        step, (state, number) = _stepping(end), first
        graph = trace(step, *first, *noise(*first, key), rate)
        run = compile_steps(graph, vary, (first, (key,), (rate,)), 6, tmp_path)
        last, count, records = run(*first, key, rate)
        for record in records:
            state, number, expected = step(state, number, *noise(state, number, key), rate)
            torch.testing.assert_close(record, expected)
        torch.testing.assert_close(last, state)
        assert count == number == 9
        torch.testing.assert_close(run(last, count, key, rate)[1], count + 6)
        made.append({path: path.stat().st_mtime_ns for path in tmp_path.glob("*.pt2")})
    assert len(made[0]) == 1
    assert made[0] == made[1]


def test_the_decision_weighs_the_steps_ahead_against_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = _graph(torch.ones(3, 4, dtype=torch.float64))
    assert not decide("auto", graph, 10).compiled
    assert decide("auto", graph, 10**8).compiled
    enough = steps_that_pay(graph)
    assert compiling_seconds(graph) == pytest.approx(SAVED * eager_seconds(graph) * enough, rel=1e-3)
    assert not decide("auto", graph, enough).compiled and decide("auto", graph, enough + 1).compiled
    assert decide("always", graph, 1).compiled
    assert not decide("never", graph, 10**8).compiled
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("PATH", os.devnull)
    without = decide("always", graph, 10**8)
    assert not without.compiled
    assert "compiler" in without.reason
