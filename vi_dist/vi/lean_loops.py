"""Loops as Inductor writes them in C++, with less to do at every turn.

A turn of its `while_loop` wraps each input in two new handles and allocates each intermediate: for a small model that
is most of a step. Here what stays the same, and memory that no result shares, are made once before the loop, and what
one turn hands to the next is moved. Kernels and their order stay as they are, and so does every bit.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

GENERATORS = frozenset({"1e4e4816ac4b1a00923eeb217d4ce4fc76b7f93a94d06d3953eb1128f9f0fa3f"})
"""SHA-256 of the code generators whose C++ is rewritten: `torch/_inductor/codegen/cpp_wrapper_cpu.py` of torch 2.13.0.

To add another one, read how it writes `while_loop`, then run the tests of this module and `benchmarks.step_cost`.
"""

_LOOP = re.compile(r"^(?P<indent> *)while \(1\) \{\n(?P<turn>.*?)^(?P=indent)\}\n", re.S | re.M)
_CONDITION_ENDS = ") break;\n"
_ARRAY = re.compile(r"^ *static constexpr int64_t .*\n", re.M)
_RESULT = re.compile(r"^ *(\w+)\.reset\(\);\n *\1 = std::move\((\w+)\);\n", re.M)


def _handle(group: str, function: str) -> str:
    """The three lines that make a handle by a function."""
    return (
        rf"^ *AtenTensorHandle (?P<{group}>\w+)_handle;\n.*\({function}\(.*&(?P={group})_handle\)\);\n"
        rf" *RAIIAtenTensorHandle (?P={group})\((?P={group})_handle\);\n"
    )


# Statements of a turn: an input's handle, new memory, memory seen otherwise, memory for other numbers, a handle's end.
_INPUT = _handle("input", "aoti_torch_assign_tensors_out").replace(r"\(.*&", r"\((?P<given>\w+), &")
_EMPTY = _handle("empty", "aoti_torch_empty_strided").replace(r"\(.*&", r"\(\d+, (?P<shape>\w+), .*&", 1)
_VIEW = (
    r"^ *auto (?P<view>\w+) = (?P<call>wrap_with_raii_handle_if_needed"
    r"\(reinterpret_tensor_wrapper\((?P<seen>\w+), [^()]*\)\));.*\n"
)
_REUSE = r"^ *auto (?P<reuse>\w+) = std::move\((?P<moved>\w+)\);.*\n"
_RESET = r"^ *(?P<reset>\w+)\.reset\(\);\n"
_STATEMENT = re.compile("|".join((_INPUT, _EMPTY, _VIEW, _REUSE, _RESET)), re.M)
# What a kernel and a product into given memory do with a name: no handle of its memory is left anywhere.
_HARMLESS = re.compile(r"\w+\.data_ptr\(\)|aoti_torch_\w+_out\([^&\n]*\)\);")
_OTHER_RESULT = re.compile(r"^ *(\w+)\.reset\(\);\n *\1 = (?!std::move\(\w+\);)", re.M)
_SIZES = re.compile(r"static constexpr int64_t (\w+)\[\] = \{([^}]*)\}")
# Numbers in memory that is kept from turn to turn: what is larger is worth allocating, and is shared by what follows.
_LARGEST = 1 << 16


def lean(source: str) -> str:
    """Inductor's C++ with lean loops; what is not understood stays as it is."""
    numbers = {
        name: [int(part.strip(" L")) for part in sizes.split(",") if part.strip()]
        for name, sizes in _SIZES.findall(source)
    }
    large = {name for name, sizes in numbers.items() if math.prod(sizes) > _LARGEST}
    return _LOOP.sub(lambda loop: _lean_loop(loop, large), source)


def rewriting() -> str:
    """What stands for this rewriting in the key of a program."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def generator() -> Path:
    """The source of what writes the C++ that is rewritten here; found without importing it."""
    inductor = find_spec("torch._inductor")
    assert inductor is not None and inductor.origin is not None, "torch has Inductor"
    return Path(inductor.origin).parent / "codegen" / "cpp_wrapper_cpu.py"


def is_known(source: Path) -> bool:
    """Whether a code generator is the one whose loops are known here, to the letter."""
    try:
        return hashlib.sha256(source.read_bytes()).hexdigest() in GENERATORS
    except OSError:
        return False


def _lean_loop(loop: re.Match[str], large: set[str]) -> str:
    """The loop, lean; `large` are names of shapes whose memory is not kept."""
    indent, turn = loop["indent"], loop["turn"]
    condition, ends, body = turn.partition(_CONDITION_ENDS)
    if not ends or "while (" in turn or _OTHER_RESULT.search(turn):
        return loop[0]
    results = dict(_RESULT.findall(turn))
    kept = {
        found["empty"] for found in _STATEMENT.finditer(body) if found["empty"] and found["shape"] in large
    }
    made = _Turn(indent, results, _outliving(body, kept | set(results.values())))
    arrays = "".join(_ARRAY.findall(turn))
    condition = re.sub(
        _INPUT, lambda found: _if_looked_at(found, condition), _ARRAY.sub("", condition), flags=re.M
    )
    body = _STATEMENT.sub(made.statement, _ARRAY.sub("", body))
    return f"{arrays}{''.join(made.before)}{indent}while (1) {{\n{condition}{ends}{body}{indent}}}\n"


def _if_looked_at(found: re.Match[str], condition: str) -> str:
    return found[0] if re.search(rf"\b{found['input']}\b(?!\(|\.reset)", condition) else ""


class _Turn:
    """A loop's body on its way: statements that need no repeating are moved to `before`.

    Args:
        results: what the body makes of each carried tensor.
        outliving: names in the body whose memory may be needed after the turn.
    """

    def __init__(self, indent: str, results: dict[str, str], outliving: set[str]) -> None:
        self._indent, self._results, self._outliving = indent, results, outliving
        self._once: set[str] = set()
        self.before: list[str] = []

    def statement(self, found: re.Match[str]) -> str:
        """What becomes of a statement in the body."""
        name = found["input"] or found["empty"] or found["view"] or found["reuse"]
        if found["reset"]:
            return "" if found["reset"] in self._once else found[0]
        if found["input"] and found["given"] in self._results:
            return f"{self._indent}    RAIIAtenTensorHandle {name} = std::move({found['given']});\n"
        source = found["seen"] or found["moved"]
        if name in self._outliving or (source and source not in self._once):
            return found[0]
        self._once.add(name)
        if found["empty"]:
            self.before.append(re.sub(rf"\b{name}(_handle\b|\()", rf"{name}_once\1", found[0]))
            source = f"{name}_once"
        elif found["view"]:
            self.before.append(f"{self._indent}auto {name}_once = {found['call']};\n")
            source = f"{name}_once"
        self.before.append(f"{self._indent}ConstantHandle {name}({source or found['given']});\n")
        return ""


def _outliving(body: str, results: set[str]) -> set[str]:
    """Results, names that are used in any way but a kernel's, and whatever these share their memory with."""
    sources, rest = {}, _RESULT.sub("", body)
    for found in _STATEMENT.finditer(body):
        if found["view"] or found["reuse"]:
            sources[found["view"] or found["reuse"]] = found["seen"] or found["moved"]
    names = results | set(re.findall(r"\w+", _HARMLESS.sub("", _STATEMENT.sub("", rest))))
    for name in list(names):
        while name in sources:
            name = sources[name]
            names.add(name)
    return names


@contextlib.contextmanager
def lean_loops() -> Iterator[None]:
    """While this is open, what Inductor compiles ahead of time for a CPU has lean loops."""
    if not is_known(generator()):  # another torch, whose loops stay as they are
        yield
        return
    from torch._inductor.codegen import common

    common.init_backend_registration()
    before = common.device_codegens["cpu"]
    lean_one = replace(before, cpp_wrapper_codegen=_lean_wrapper())
    common.device_codegens["cpu"] = lean_one
    try:
        yield
    finally:
        common.device_codegens["cpu"] = before


@cache
def _lean_wrapper() -> Any:
    """Inductor's writer of C++ around kernels, which is a second's import."""
    from torch._inductor.codegen import cpp_wrapper_cpu
    from torch._inductor.utils import ValueWithLineMap

    stock: Any = cpp_wrapper_cpu.CppWrapperCpu

    class LeanWrapper(stock):  # type: ignore[misc]
        @staticmethod
        def create(*_: Any) -> LeanWrapper:
            return LeanWrapper()

        def generate(self, is_inference: bool) -> tuple[ValueWithLineMap, Any]:
            wrapper, kernels = super().generate(is_inference)
            return ValueWithLineMap(lean(wrapper.value), wrapper.line_map), kernels

    return LeanWrapper
