"""Files with checksums inside: whatever befalls one is named, and what is whole is read."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from vi_dist.checked_files import (
    EMPTY_MARK,
    check,
    read_checked,
    read_json,
    replace_file,
    sealed,
    sealed_json,
    set_aside,
)
from vi_dist.errors import DamagedFile, SpecError
from vi_dist.framed import framed, read_records, unframed
from vi_dist.report.table_file import read_frame, write_table
from vi_dist.vi.tensor_file import read_tensors, write_tensors


def text(folder: Path) -> Path:
    return replace_file(folder / "a.yaml", sealed(f"# {EMPTY_MARK}\nname: “a”\n".encode()))


def data(folder: Path) -> Path:
    return replace_file(folder / "a.json", sealed_json({"a": [1, float("nan")], "b": "x" * 300}))


def tensors(folder: Path) -> Path:
    return write_tensors(folder / "a.safetensors", {"a": torch.arange(9.0), "b": torch.eye(2).T})


def table(folder: Path) -> Path:
    part = pa.table({"a": [1.0, 2.0], "b": pa.array(["x", "y"]).dictionary_encode()})
    return write_table(folder / "a.parquet", [part, part], part.schema)


KINDS = [text, data, tensors, table]


@pytest.mark.parametrize("write", KINDS)
@pytest.mark.parametrize("durable", [True, False])
def test_a_whole_file_is_read(write: Any, durable: bool, tmp_path: Path) -> None:
    file = write(tmp_path)
    assert check(file)
    replace_file(file, file.read_bytes(), durable=durable)
    assert check(file)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_files_are_what_others_read(tmp_path: Path) -> None:
    assert json.loads(data(tmp_path).read_text())["b"] == "x" * 300
    assert read_json(tmp_path / "a.json").keys() == {"a", "b"}
    assert torch.equal(load_file(tensors(tmp_path))["a"], read_tensors(tmp_path / "a.safetensors")["a"])
    assert pq.read_table(table(tmp_path))["a"].to_pylist() == [1.0, 2.0, 1.0, 2.0]
    assert read_frame(tmp_path / "a.parquet", columns=["b"])["b"].tolist() == ["x", "y", "x", "y"]


@pytest.mark.parametrize("write", KINDS)
def test_every_flipped_bit_and_every_cut_is_noticed(write: Any, tmp_path: Path) -> None:
    file = write(tmp_path)
    (tmp_path / "b.yaml").write_bytes(
        sealed(f"# {EMPTY_MARK}\n".encode())
    )  # says that checksums are in use here
    whole = file.read_bytes()
    generator = random.Random(1)
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 1 << generator.randrange(8)
        file.write_bytes(broken)
        with pytest.raises(DamagedFile, match=f"{file.name}: is damaged: .*; mend it"):
            check(file, "mend it")
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        with pytest.raises(DamagedFile, match="is damaged"):
            read_checked(file)
    file.write_bytes(whole + b"\n")
    with pytest.raises(
        DamagedFile, match=f"it holds {len(whole) + 1} bytes and was written with {len(whole)}"
    ):
        check(file)


def test_a_file_without_a_checksum_is_read_where_no_other_has_one(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert not check(tmp_path / "a.json")
    assert read_json(tmp_path / "a.json") == {"a": 1}
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "b.json").write_text("[1]")
    with pytest.raises(
        DamagedFile, match=r"b\.json: is damaged: it cannot be read as JSON \(not a mapping\)"
    ):
        read_json(inner / "b.json")
    tensors(tmp_path)
    for name in ("a.json", "inner/b.json"):
        with pytest.raises(DamagedFile, match="its checksum is missing"):
            check(tmp_path / name)


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        check(tmp_path / "a.json")
    (tmp_path / "a.json").mkdir()
    with pytest.raises(SpecError, match=r"a\.json: is damaged: it is no file"):
        check(tmp_path / "a.json")


def test_nothing_that_is_set_aside_is_lost(tmp_path: Path) -> None:
    (tmp_path / "guides").mkdir()
    for content in ("1", "2"):
        (tmp_path / "guides" / "a").write_text(content)
        set_aside(tmp_path / "guides" / "a", tmp_path)
    assert sorted(file.name for file in (tmp_path / "set-aside").iterdir()) == ["guides-a.1", "guides-a.2"]


def test_records_are_read_up_to_the_damage() -> None:
    content = framed(b"one") + framed(b"") + framed(b"three" * 40)
    assert read_records(content).payloads == [b"one", b"", b"three" * 40]
    assert unframed(framed(b"one")) == b"one"
    first = len(framed(b"one"))
    for place in range(len(content)):
        broken = bytearray(content)
        broken[place] ^= 16
        found = read_records(bytes(broken))
        assert found.fault
        assert found.payloads == [b"one", b"", b"three" * 40][: len(found.payloads)]
        assert len(found.payloads) == (0 if place < first else 1 if place < 2 * first - 3 else 2)
    for length in range(len(content)):
        found = read_records(content[:length])
        assert not found.fault
        assert found.ends == [end for end in read_records(content).ends if end <= length]
    for wrong in (b"", content, content[:-1], b"no record at all", b"x"):
        with pytest.raises(ValueError, match=r"record"):
            unframed(wrong)
