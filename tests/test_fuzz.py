"""Sixty odd specs and sixty odd calls: each is refused in words, or accepted and legal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.fuzz.inputs import run_inputs
from tests.fuzz.outcome import BAD, Outcome, in_words, judged
from tests.fuzz.specs import run_specs
from vi_dist.errors import SpecError

SEED, NUMBERED = 14, range(60)


def test_odd_specs(tmp_path: Path) -> None:
    wrong: list[str] = []
    outcomes = run_specs(NUMBERED, SEED, tmp_path / "specs", _keep(wrong))
    assert not wrong, "\n\n".join(wrong)
    assert {outcome.kind for outcome in outcomes} == {"refused", "accepted"}


def test_odd_calls(with_store: Callable[[Path], Path], tmp_path: Path) -> None:
    (tmp_path / "calls").mkdir()
    with_store(tmp_path / "calls" / "out")
    wrong: list[str] = []
    outcomes = run_inputs(NUMBERED, SEED, tmp_path / "calls", _keep(wrong))
    assert not wrong, "\n\n".join(wrong)
    assert {outcome.kind for outcome in outcomes} == {"refused", "accepted"}


def _keep(wrong: list[str]) -> Callable[[int, object, Outcome], None]:
    def told(index: int, what: object, outcome: Outcome) -> None:
        if outcome.kind in BAD:
            wrong.append(f"{index}: {outcome.kind}\n{what!r}\n{outcome.detail}")

    return told


def test_a_fault_is_told_from_a_refusal() -> None:
    def refuse() -> None:
        raise SpecError("2 is too large", key="steps")

    def fail() -> None:
        int("x")

    def write_nowhere() -> None:
        Path("/nowhere/at/all").write_text("")

    assert judged(refuse, in_words).kind == "refused"
    assert judged(fail, in_words).kind == "traceback"
    assert judged(write_nowhere, in_words).kind == "refused"
    assert judged(lambda: None, in_words).kind == "accepted"
