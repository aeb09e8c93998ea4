"""Compiling a step's flat graph with Inductor, into a cache on disk that a node's processes share.

On a CPU ahead of time, since what a call costs counts there; on a GPU just in time, since calls are recorded anyway.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import math
import os
import platform
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from vi_dist.cache import cache_root
from vi_dist.exported import exported
from vi_dist.model.validation import unvalidated
from vi_dist.vi.graph import finish_gathered, finish_words, is_view, spell_tanh
from vi_dist.vi.lean_loops import lean_loops, rewriting
from vi_dist.vi.lifted_constants import device_of, lift_constants

log = logging.getLogger(__name__)

# Seconds of an eager node, and of an element of its output: measured on one core (`benchmarks.compile_pays`), and on a
# GPU that replays them.
EAGER_SECONDS = {"cpu": (3.0e-6, 0.8e-9), "cuda": (1.1e-6, 4.3e-12)}
# Seconds of compiling, measured on one core; the part of an eager step's time that a compiled one saves.
COMPILE_SECONDS, COMPILE_SECONDS_PER_NODE = 8.5, 0.0175
SAVED = 0.8
# Graphs beyond this many nodes take minutes to compile.
MAX_NODES = 6000

# Where Inductor keeps what it compiles. It writes the variable itself at its first use, so what the user wants is what
# it says now.
_INDUCTOR = "TORCHINDUCTOR_CACHE_DIR"
_OF_THE_USER = os.environ.get(_INDUCTOR)


@dataclass(frozen=True)
class Decision:
    """Whether a step is compiled, and why, in a sentence."""

    compiled: bool
    reason: str


def decide(mode: str, graph: GraphModule, steps: int) -> Decision:
    """Whether compiling pays: from the graph and the number of steps ahead, never from the machine's load.

    Args:
        mode: `auto`, `always` or `never`.
        graph: the traced step of a pack.
        steps: steps that all packs sharing this program will take.
    """
    if mode == "never":
        return Decision(False, "compile: never")
    if not has_compiler():
        return Decision(
            False, "no C++ compiler was found (install g++, or set CXX): the flat graph runs eagerly"
        )
    if mode == "always":
        return Decision(True, "compile: always")
    nodes = len(graph.graph.nodes)
    if nodes > MAX_NODES:
        return Decision(False, f"{nodes} nodes would take minutes to compile")
    eager, compiling = steps * eager_seconds(graph), compiling_seconds(graph)
    words = f"{steps} steps of {nodes} nodes: about {eager:.0f} s eager, {compiling:.0f} s to compile"
    return Decision(steps > steps_that_pay(graph), words)


def steps_that_pay(graph: GraphModule) -> int:
    """From how many steps on compiling them takes less time than it saves."""
    return math.ceil(compiling_seconds(graph) / (SAVED * eager_seconds(graph)))


def eager_seconds(graph: GraphModule) -> float:
    """What running a traced graph node by node takes, roughly."""
    node, element = EAGER_SECONDS["cuda" if device_of(graph).type == "cuda" else "cpu"]
    return len(graph.graph.nodes) * node + elements(graph) * element


def compiling_seconds(graph: GraphModule) -> float:
    """What compiling a traced graph takes, roughly, where others have been compiled before."""
    return COMPILE_SECONDS + len(graph.graph.nodes) * COMPILE_SECONDS_PER_NODE


def elements(graph: GraphModule) -> int:
    """Numbers written by one run of a traced graph: the sum of all nodes' output sizes, views left out."""
    total = 0
    for node in graph.graph.nodes:
        value = node.meta.get("val")
        if node.op == "call_function" and isinstance(value, Tensor) and not is_view(node):
            total += value.numel()
    return total


def has_compiler() -> bool:
    """Whether a C++ compiler is there for Inductor to call."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None or shutil.which("clang++") is not None


def default_cache() -> Path:
    """Where compiled programs are kept unless told otherwise: `VI_DIST_CACHE`, else the user's cache directory."""
    return cache_root() / "programs"


def compile_steps(
    step: GraphModule,
    vary: GraphModule,
    inputs: Sequence[Sequence[Tensor]],
    steps: int,
    directory: Path | None = None,
) -> Callable[..., tuple[Tensor, ...]]:
    """Several steps in a row as compiled code; from the cache if any process compiled it before.

    The data that the graphs hold are inputs of the program, so that it does not depend on their values.

    Args:
        step: one step, from carried tensors, a tensor that differs between steps and some that do not, to the carried
            tensors and records.
        vary: what makes the tensor that differs, from the carried tensors and some that do not.
        inputs: an example of each input: the carried tensors, what else `vary` is given, and what else `step` is.
        steps: K, how many are taken in one call: the records get an axis of K in front.
        directory: where compiled programs are kept.

    Raises `ValueError` for a step that hands on one tensor as two.
    """
    outputs: Any = step.graph.output_node().args[0]
    if len(set(outputs[: len(inputs[0])])) < len(inputs[0]):
        raise ValueError("a loop cannot hand on one tensor as two")
    (step, of_step), (vary, of_vary) = _prepared(step), _prepared(vary)
    program = _Steps(step, vary, [*map(len, inputs), len(of_step), len(of_vary)], steps)
    constants = (*of_step, *of_vary)
    examples = (*(t for part in inputs for t in part), *constants)
    return _program(program, program_key(program.code, examples), examples, constants, directory)


def compile_graph(
    graph: GraphModule, inputs: Sequence[Tensor], directory: Path | None = None
) -> Callable[..., tuple[Tensor, ...]]:
    """A graph as compiled code for inputs of these shapes; cached, and its data held apart, as in `compile_steps`."""
    graph, constants = _prepared(graph)
    examples = (*inputs, *constants)
    if any(t.is_cuda for t in examples):
        return _just_in_time(graph, examples, constants, directory or default_cache())
    return _program(graph, program_key(graph.code, examples), examples, constants, directory)


def _program(
    program: torch.nn.Module,
    key: str,
    examples: Sequence[Tensor],
    constants: Sequence[Tensor],
    directory: Path | None,
) -> Callable[..., tuple[Tensor, ...]]:
    """The compiled program of that key, from the cache or made now; its last inputs are the constants."""
    directory = directory or default_cache()
    directory.mkdir(parents=True, exist_ok=True)
    package = directory / f"{key}.pt2"
    with _locked(package.with_suffix(".lock")):
        if not package.exists():
            _compile(program, examples, package)
    run = _load(package)

    def call(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(run([*tensors, *constants]))

    return call


def _just_in_time(
    graph: GraphModule, examples: Sequence[Tensor], constants: Sequence[Tensor], directory: Path
) -> Callable[..., tuple[Tensor, ...]]:
    """The graph compiled at once for these examples, with Inductor's own cache in that directory."""
    compiled = torch.compile(graph, fullgraph=True, dynamic=False)

    def call(*tensors: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return tuple(compiled(*tensors, *constants))

    directory.mkdir(parents=True, exist_ok=True)
    lock = directory / f"{program_key(graph.code, examples)}.lock"
    with _locked(lock), exported({_INDUCTOR: _OF_THE_USER or str(directory / "inductor")}):
        call(*examples[: len(examples) - len(constants)])
    return call


class _Steps(torch.nn.Module):
    """A step, taken several times; `sizes` says how many of the inputs are carried, given to each graph, constants."""

    def __init__(self, step: GraphModule, vary: GraphModule, sizes: Sequence[int], steps: int) -> None:
        super().__init__()
        self.step, self.vary, self.sizes, self.steps = step, vary, sizes, steps

    @property
    def code(self) -> str:
        """What the program does, for its key."""
        return f"{self.step.code}\n{self.vary.code}\n{self.steps}\n{rewriting()}"

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        from torch._higher_order_ops.scan import scan  # takes a while, and what is cached needs none

        parts = iter(inputs)
        state, given, shared, of_step, of_vary = ([next(parts) for _ in range(size)] for size in self.sizes)

        def once(state: list[Tensor], _: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            (x,) = self.vary(*state, *given, *of_vary)
            out = self.step(*state, x, *shared, *of_step)
            # Cloned, because what a loop returns must not be what it was given.
            carried = [t.clone() for t in out[: len(state)]]
            return carried, [t.clone() for t in out[len(state) :]]

        last, records = scan(once, state, torch.arange(self.steps))
        return (*last, *records)


def _prepared(graph: GraphModule) -> tuple[GraphModule, list[Tensor]]:
    """A copy of the graph as it is compiled, its data apart."""
    lifted, constants = lift_constants(graph)
    finish_gathered(lifted)
    if device_of(graph).type == "cpu":
        finish_words(lifted)
        spell_tanh(lifted)
    return lifted, constants


def program_key(code: str, examples: Sequence[Tensor]) -> str:
    """What a compiled program depends on: the code, shapes, strides, dtypes, device, torch, processor and threads."""
    parts = [code, torch.__version__, platform.machine(), _processor()]
    parts.append(str(torch.get_num_threads()))
    parts += [f"{tuple(t.shape)} {t.stride()} {t.dtype} {t.device}" for t in examples]
    if any(t.is_cuda for t in examples):
        parts.append(torch.cuda.get_device_name())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _compile(program: torch.nn.Module, examples: Sequence[Tensor], package: Path) -> None:
    from torch._inductor import aoti_compile_and_package

    # Exporting switches the value checks of torch.distributions off, for good; here that ends with the block.
    with warnings.catch_warnings(), torch.no_grad(), unvalidated(), lean_loops():
        warnings.simplefilter("ignore")  # torch's own deprecations
        exported = torch.export.export(program, tuple(examples), strict=False)
        with tempfile.TemporaryDirectory(dir=package.parent) as scratch:
            made = aoti_compile_and_package(exported, package_path=os.path.join(scratch, "step.pt2"))
            os.replace(made, package)


def _load(package: Path) -> Callable[[list[Tensor]], list[Tensor]]:
    """What `aoti_load_package` gives, without what goes before: a second's import, and another of asking the processor.

    It would warn of another processor than the one compiled for, which here has another key. And what it gives parses
    its signature at every call, a third of a millisecond.
    """
    loader = torch._C._aoti.AOTIModelPackageLoader(str(package), "model", False, 1, -1)
    run: Callable[[list[Tensor]], list[Tensor]] = loader.run
    return run


def _processor() -> str:
    """What the processor can do: code is compiled for all of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.processor()} {torch.backends.cpu.get_cpu_capability()}"
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process compiles, the others of the node wait and then find it done."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)
