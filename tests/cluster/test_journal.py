"""The journal: whatever moment a driver dies at, the next one over its journal comes to the same outcomes."""

from __future__ import annotations

import math
import pickle
import random
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from vi_dist.cluster.answer_bytes import from_bytes, to_bytes
from vi_dist.cluster.driver import Driver
from vi_dist.cluster.executor import Executor
from vi_dist.cluster.inline_executor import InlineExecutor
from vi_dist.cluster.journal import Journal
from vi_dist.cluster.observer import Observer
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.pack_states import PackStates
from vi_dist.cluster.rungs import Rungs
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import Chunk, Evaluated, Outcome, StepKind
from vi_dist.errors import SpecError
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.halving import Halving
from vi_dist.sweep.plan import Pack

Configure = Callable[..., Configuration]
STEPS, PACKS = 24, 2


class Killed(BaseException):
    """The end of a driver's process."""


class Killer(Observer):
    """Ends the driver once it has been told of so many chunks and packs."""

    def __init__(self, after: int) -> None:
        self.left = after

    def chunk_done(self, run: PackRun, chunk: Chunk) -> None:
        self._count()

    def pack_ended(self, run: PackRun) -> None:
        self._count()

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


@pytest.fixture(scope="module")
def setup(toy_setup: Callable[..., Setup]) -> Setup:
    return toy_setup(samples=64)


@pytest.fixture(scope="module")
def configurations(configuration: Configure) -> Sequence[Configuration]:
    return [configuration(learning_rate=0.01 * (k + 1), steps=STEPS) for k in range(2 * PACKS)]


def run(
    executor: Executor, setup: Setup, configurations: Sequence[Configuration], kill: int = 10**9
) -> list[PackRun]:
    """All packs of a sweep with one rung, in the order of their numbers."""
    packs = [Pack(k, 8, (2 * k, 2 * k + 1)) for k in range(PACKS)]
    rungs = Rungs(configurations, packs, Halving(2, 8), 64)
    for pack in rungs.first:
        pack.ahead = 4  # and one step in every later chunk
    driver = Driver(rungs.first, setup, executor, [Killer(kill)], follow=rungs, chunk_seconds=0.0)
    driver.run()
    return sorted(driver.runs, key=lambda pack: pack.task.index)


def told(runs: Sequence[PackRun]) -> list[object]:
    """Everything that a sweep says of its configurations, without times."""
    return [
        (one.task.index, member, outcome.status, outcome.steps, outcome.elbo, outcome.khat)
        for one in runs
        for member, outcome in zip(one.members, one.outcomes or (), strict=True)
    ]


def curves(runs: Sequence[PackRun]) -> list[bytes]:
    return [np.asarray(values).tobytes() for one in runs for row in one.curves() for values in row.values()]


@pytest.fixture(scope="module")
def undisturbed(setup: Setup, configurations: Sequence[Configuration]) -> list[PackRun]:
    return run(InlineExecutor(), setup, configurations)


@pytest.mark.parametrize("deaths", [(1,), (9, 20, 2, 1)])
def test_a_sweep_that_dies_now_and_then_ends_as_one_that_does_not(
    deaths: Sequence[int],
    setup: Setup,
    configurations: Sequence[Configuration],
    undisturbed: list[PackRun],
    tmp_path: Path,
) -> None:
    for after in deaths:
        with pytest.raises(Killed):
            run(Journal(InlineExecutor(), tmp_path), setup, configurations, after)
    runs = run(Journal(InlineExecutor(), tmp_path), setup, configurations)
    assert told(runs) == told(undisturbed)
    assert curves(runs) == curves(undisturbed)


def test_results_in_any_order_and_lost_workers_are_no_matter(
    setup: Setup,
    configurations: Sequence[Configuration],
    undisturbed: list[PackRun],
    scrambled: Callable[..., Executor],
    tmp_path: Path,
) -> None:
    with pytest.raises(Killed):
        run(Journal(scrambled(2, seed=1, losses=1), tmp_path), setup, configurations, 6)
    runs = run(Journal(scrambled(3, seed=2, losses=1), tmp_path), setup, configurations)
    assert told(runs) == told(undisturbed)


def test_an_answer_that_the_end_tore_is_asked_for_again(
    setup: Setup, configurations: Sequence[Configuration], undisturbed: list[PackRun], tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        run(Journal(InlineExecutor(), tmp_path), setup, configurations, 1)
    file = tmp_path / "0.answers"
    whole = file.read_bytes()
    with file.open("ab") as stream:
        stream.write(whole[: len(whole) // 3])
    assert told(run(Journal(InlineExecutor(), tmp_path), setup, configurations)) == told(undisturbed)


def test_nothing_is_computed_twice(
    setup: Setup, configurations: Sequence[Configuration], tmp_path: Path
) -> None:
    class Counting(InlineExecutor):
        asked = 0

        def submit(self, worker: int, method: str, *arguments: object) -> object:  # type: ignore[override]
            self.asked += method != "place"
            return super().submit(worker, method, *arguments)

    run(Journal(Counting(), tmp_path), setup, configurations)
    again = Counting()
    run(Journal(again, tmp_path), setup, configurations)
    assert again.asked == 0


def test_two_processes_do_not_write_one_journal(tmp_path: Path) -> None:
    first = Journal(InlineExecutor(), tmp_path)
    with pytest.raises(SpecError, match="under way in another process"):
        Journal(InlineExecutor(), tmp_path)
    first.close()
    Journal(InlineExecutor(), tmp_path).forget()
    assert not tmp_path.exists()


def damage(content: bytes, kind: str, seed: int) -> bytes:
    """The content cut, emptied, with noise over a part of it, or with bits flipped."""
    generator = random.Random(seed)
    if kind == "cut":
        return content[: generator.randrange(len(content))]
    if kind == "emptied":
        return b""
    noisy = bytearray(content)
    if kind == "garbled":
        start = generator.randrange(len(content))
        noisy[start : start + 64] = generator.randbytes(len(noisy[start : start + 64]))
    else:
        for _ in range(1 if kind == "one bit" else 20):
            noisy[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    return bytes(noisy)


class Warm(InlineExecutor):
    """Keeps its worker, which has traced the model, from one sweep to the next."""

    def open(self, setup: Setup, packs: int) -> int:
        return 1 if self._worker is not None else super().open(setup, packs)

    def close(self) -> None:
        self._results.clear()


DAMAGE = ("cut", "emptied", "garbled", "one bit", "twenty bits")


def test_whatever_is_damaged_is_computed_again_to_the_same_bits(
    setup: Setup,
    configurations: Sequence[Configuration],
    undisturbed: list[PackRun],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    dead = tmp_path / "dead" / "journal"
    with pytest.raises(Killed):
        run(Journal(InlineExecutor(), dead), setup, configurations, 15)
    files = sorted(file.name for file in dead.iterdir() if file.stat().st_size)
    assert {Path(name).suffix for name in files} == {".answers", ".state"}
    warm = Warm()
    cases = [(files[k % len(files)], kind) for k, kind in enumerate(DAMAGE * 2)]
    cases += [(name, DAMAGE[k % len(DAMAGE)]) for k, name in enumerate(files)]
    for case, (name, kind) in enumerate(cases):
        journal = tmp_path / str(case) / "journal"
        shutil.copytree(dead, journal)
        whole = (journal / name).read_bytes()
        (journal / name).write_bytes(damage(whole, kind, case))
        caplog.clear()
        runs = run(Journal(warm, journal), setup, configurations)
        assert told(runs) == told(undisturbed), (name, kind)
        assert curves(runs) == curves(undisturbed), (name, kind)
        torn = name.endswith(".answers") and kind in ("cut", "emptied")
        named = any(name in record.message for record in caplog.records)
        aside = [file.name for file in journal.parent.glob("set-aside/*")]
        later = name.endswith(".state") and not named  # one that a later one had replaced
        assert torn or later or (named and any(name in file for file in aside)), (name, kind)


def test_a_pickle_in_a_journal_is_never_loaded(
    setup: Setup, configurations: Sequence[Configuration], undisturbed: list[PackRun], tmp_path: Path
) -> None:
    class Planted:
        def __reduce__(self) -> object:
            return Path.touch, (tmp_path / "ran",)

    journal = tmp_path / "journal"
    with pytest.raises(Killed):
        run(Journal(InlineExecutor(), journal), setup, configurations, 6)
    planted = pickle.dumps(Planted())
    for file in journal.iterdir():
        file.write_bytes(len(planted).to_bytes(8, "little") + planted)
    runs = run(Journal(InlineExecutor(), journal), setup, configurations)
    assert told(runs) == told(undisturbed)
    assert not (tmp_path / "ran").exists()


def test_answers_come_back_bit_for_bit() -> None:
    odd = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_1234))[0]  # a NaN with a sign and a payload
    kind = StepKind("flat", "", True, "it pays: “quotes” and all")
    steps = np.array([3, 0])
    chunk = Chunk(
        state=b"",
        before=np.zeros(2, np.int64),
        after=steps,
        skipped=steps,
        alive=np.array([True, False]),
        curves={
            "train/loss": np.array([[np.inf, -0.0], [np.nan, 1e-45]], np.float32).T,
            "empty": np.zeros((0, 2)),
        },
        began_ms=1,
        ended_ms=2**45,
        seconds=0.1,
        preparing=math.inf,
        kind=kind,
    )
    outcome = Outcome(
        "finished",
        "Done.",
        elbo=odd,
        khat=-math.inf,
        leaves={"loc": torch.tensor([1.0, math.nan]), "a": torch.eye(3, dtype=torch.float64).T[1:]},
        model_params={"eta": torch.tensor(0.5, requires_grad=True)},
        sharding={"rows": math.nan},
    )
    again = from_bytes(to_bytes(chunk))
    assert isinstance(again, Chunk)
    assert again.kind == kind
    assert (again.began_ms, again.ended_ms, again.seconds, again.preparing) == (1, 2**45, 0.1, math.inf)
    for name, values in chunk.curves.items():
        assert again.curves[name].dtype == values.dtype
        assert again.curves[name].tobytes() == values.tobytes()
    evaluated = from_bytes(to_bytes(Evaluated((outcome, Outcome("failed", "No.")), 1.5, 0.25)))
    assert isinstance(evaluated, Evaluated)
    first = evaluated.outcomes[0]
    assert struct.pack("<d", first.elbo) == struct.pack("<d", odd)
    assert first.khat == -math.inf
    assert list(first.leaves) == ["loc", "a"]
    assert first.leaves["a"].tolist() == outcome.leaves["a"].tolist()
    assert first.model_params["eta"].shape == ()
    assert math.isnan(first.sharding["rows"])
    assert (evaluated.seconds, evaluated.preparing, evaluated.outcomes[1].reason) == (1.5, 0.25, "No.")


def test_the_newest_two_states_of_a_pack_stay(tmp_path: Path) -> None:
    states = PackStates(tmp_path)
    (tmp_path / "7.answers").touch()
    for chunks in range(1, 6):
        states.write(7, chunks, b"state %d" % chunks)
        states.supersede(7, chunks)
    states.close()
    assert sorted(file.name for file in tmp_path.glob("*.state")) == ["7.4.state", "7.5.state"]
    assert PackStates(tmp_path).newest(7, 5) == (5, b"state 5")
    (tmp_path / "7.5.state").write_bytes(b"")
    assert PackStates(tmp_path).newest(7, 5) == (4, b"state 4")
    assert PackStates(tmp_path).newest(7, 3) == (0, b"")
