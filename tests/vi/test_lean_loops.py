from __future__ import annotations

import re
from pathlib import Path

import pytest

from vi_dist.vi.lean_loops import generator, is_known, lean, lean_loops


def _handle(name: str, call: str) -> str:
    return (
        f"        AtenTensorHandle {name}_handle;\n"
        f"        AOTI_TORCH_ERROR_CODE_CHECK({call}&{name}_handle));\n"
        f"        RAIIAtenTensorHandle {name}({name}_handle);\n"
    )


def _input(name: str, given: str) -> str:
    return _handle(name, f"aoti_torch_assign_tensors_out({given}, ")


def _empty(name: str) -> str:
    return _handle(name, "aoti_torch_empty_strided(1, int_array_1, int_array_1, dtype, device, 0, ")


def _view(name: str, of: str) -> str:
    call = f"reinterpret_tensor_wrapper({of}, 1, int_array_1, int_array_1, 0L)"
    return f"        auto {name} = wrap_with_raii_handle_if_needed({call});  // alias\n"


def _kernel(*names: str) -> str:
    return f"        kernel({', '.join(f'(float*)({name}.data_ptr())' for name in names)});\n"


def _turn(body: str) -> str:
    """A loop that carries one tensor, is given `data`, and makes `after` of it."""
    return (
        "    before();\n    while (1) {\n"
        f"{_input('cond_arg0', 'state')}{_input('cond_arg1', 'data')}"
        f"{_empty('cond_buf0')}{_kernel('cond_arg0', 'cond_buf0')}        cond_arg0.reset();\n"
        "        result.reset();\n        result = std::move(cond_buf0);\n"
        "        if (!result_scalar) break;\n"
        f"{_input('arg0', 'state')}{_input('arg1', 'data')}"
        "        static constexpr int64_t int_array_1[] = {4L, };\n"
        f"{_empty('after')}{body}"
        "        arg0.reset();\n        arg1.reset();\n"
        "        state.reset();\n        state = std::move(after);\n    }\n    after_all();\n"
    )


def _parts(source: str) -> tuple[str, str]:
    """What is before a lean loop, and its turn."""
    before, turn = source.split("while (1) {")
    return before, turn


def test_what_stays_the_same_is_wrapped_once_and_what_is_carried_is_moved() -> None:
    before, turn = _parts(lean(_turn(_kernel("arg0", "arg1", "after"))))
    assert "ConstantHandle arg1(data);" in before
    assert "RAIIAtenTensorHandle arg0 = std::move(state);" in turn
    assert "arg1.reset()" not in turn
    assert "arg0.reset()" in turn
    assert turn.count("aoti_torch_assign_tensors_out") == 1, "of the condition, what it looks at"
    assert "cond_arg1" not in turn
    assert "int_array_1[]" in before


def test_memory_that_no_result_shares_is_allocated_once() -> None:
    body = (
        f"{_empty('buf0')}{_kernel('arg0', 'buf0')}{_view('buf1', 'buf0')}"
        "        auto buf2 = std::move(buf1);  // reuse\n"
        f"{_kernel('buf2', 'after')}        buf0.reset();\n        buf1.reset();\n        buf2.reset();\n"
    )
    before, turn = _parts(lean(_turn(body)))
    for name in ("buf0", "buf1", "buf2"):
        assert f"ConstantHandle {name}(" in before
        assert f"{name}.reset" not in turn
    assert re.findall(r"empty_strided\(.*&(\w+)_handle", turn) == ["cond_buf0", "after"]


def test_memory_that_a_result_shares_is_allocated_at_every_turn() -> None:
    body = f"{_empty('buf0')}{_kernel('arg0', 'buf0')}{_view('buf1', 'buf0')}"
    source = _turn(body).replace("std::move(after)", "std::move(buf1)")
    before, _ = _parts(lean(source))
    assert "buf0" not in before
    assert "buf1" not in before
    assert "ConstantHandle after" in before, "which is no result here"


def test_memory_of_which_a_handle_may_be_left_is_allocated_at_every_turn() -> None:
    """What a call returns may be a view of what it is given."""
    returned = _handle("buf1", "aoti_torch_cpu_squeeze(buf0, ")
    product = "        AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_mm_out(buf2, buf3, arg1));\n"
    body = f"{_empty('buf0')}{returned}{_empty('buf2')}{_empty('buf3')}{product}{_kernel('buf1', 'after')}"
    before, _ = _parts(lean(_turn(body)))
    assert "buf0" not in before
    assert "buf1" not in before
    assert "ConstantHandle buf2" in before
    assert "ConstantHandle buf3" in before


def test_an_input_that_is_handed_on_keeps_a_handle_of_its_own() -> None:
    """A borrowed one would be freed with the result."""
    before, turn = _parts(lean(_turn("").replace("std::move(after)", "std::move(arg1)")))
    assert "arg1" not in before
    assert "aoti_torch_assign_tensors_out(data, &arg1_handle)" in turn


def test_large_memory_is_allocated_at_every_turn() -> None:
    """What follows then shares it, and the loop's memory is what it was."""
    source = _turn(f"{_empty('buf0')}{_kernel('arg0', 'buf0')}{_kernel('buf0', 'after')}")
    assert "ConstantHandle buf0" in lean(source)
    assert "buf0" not in _parts(lean(source.replace("{4L, }", "{400L, 400L}")))[0]


def test_a_view_handed_to_a_call_that_returns_one_is_allocated_at_every_turn() -> None:
    view = (
        "wrap_with_raii_handle_if_needed(reinterpret_tensor_wrapper(buf0, 1, int_array_1, int_array_1, 0L))"
    )
    body = f"{_empty('buf0')}{_handle('buf1', f'aoti_torch_cpu_view_as_complex({view}, ')}{_kernel('buf1', 'after')}"
    assert "buf0" not in _parts(lean(_turn(body)))[0]


def test_other_code_stays_as_it_is() -> None:
    view = (
        "wrap_with_raii_handle_if_needed(reinterpret_tensor_wrapper(after, 1, int_array_1, int_array_1, 0L))"
    )
    seen = _turn("").replace("std::move(after)", f"std::move({view})")
    assert lean(seen) == seen, "a result that is a view of what the turn made"
    nested = _turn("        while (other) {\n        }\n")
    assert lean(nested) == nested
    assert lean("int main() {\n    while (1) {\n        f();\n    }\n}\n").count("f();") == 1


def test_the_installed_generator_is_known_and_no_other(tmp_path: Path) -> None:
    """Where this fails, torch was updated: its loops are as slow as they come until they are known."""
    assert is_known(generator())
    other = tmp_path / "cpp_wrapper_cpu.py"
    other.write_bytes(generator().read_bytes() + b"\n")
    assert not is_known(other)
    assert not is_known(tmp_path / "missing.py")


def test_the_stock_writer_is_back_afterwards_and_stays_where_torch_is_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torch._inductor.codegen import common

    common.init_backend_registration()
    before = common.device_codegens["cpu"]
    with lean_loops():
        assert common.device_codegens["cpu"] is not before
    assert common.device_codegens["cpu"] is before
    monkeypatch.setattr("vi_dist.vi.lean_loops.GENERATORS", frozenset())
    with lean_loops():
        assert common.device_codegens["cpu"] is before
