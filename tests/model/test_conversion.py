"""Every value of a column is kept as it is, or the column is refused with its row."""

from __future__ import annotations

import datetime
import json
import pickle
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from vi_dist.errors import ModelError
from vi_dist.model.conversion import UnfitValueError, to_column
from vi_dist.model.data import Data, digest, open_data

BIG = 2**53 + 1


class Quantity(np.ndarray):
    """An array that carries a unit, as several packages have."""

    unit = "km"


def quantity() -> Any:
    return np.ones(3).view(Quantity)


def frame(values: Any, **kinds: Any) -> Any:
    return pd.Series(values, **kinds)


KEPT: dict[str, tuple[Any, Any]] = {
    "uint64": (np.array([1, 2**63 - 1], np.uint64), [1, 2**63 - 1]),
    "uint16 tensor": (torch.tensor([1, 65535], dtype=torch.uint16), [1, 65535]),
    "float16": (np.array([0.1, 65504], np.float16), np.array([0.1, 65504], np.float16).tolist()),
    "bfloat16": (torch.tensor([0.1, 3e38]).bfloat16(), torch.tensor([0.1, 3e38]).bfloat16().tolist()),
    "long double": (np.array([0.5, 3.0], np.longdouble), [0.5, 3.0]),
    "large integers": ([BIG, -(2**63)], [BIG, -(2**63)]),
    "integers and floats": ([1, 2.5, BIG - 1], [1.0, 2.5, float(BIG - 1)]),
    "nullable integers": (frame([1, BIG], dtype="Int64"), [1, BIG]),
    "nullable truths": (frame([True, False], dtype="boolean"), [True, False]),
    "arrow integers": (frame([1, BIG], dtype="int64[pyarrow]"), [1, BIG]),
    "arrow decimals": (frame([Decimal("1.25")] * 2, dtype="object"), [1.25, 1.25]),
    "categories": (frame([3, 1], dtype="category"), [3, 1]),
    "sparse": (frame(pd.arrays.SparseArray([0, 0, 5])), [0, 0, 5]),
    "sparse tensor": (torch.eye(2).to_sparse(), [[1.0, 0.0], [0.0, 1.0]]),
    "negated view": (torch.tensor([1 + 2j]).conj().imag, [-2.0]),
    "fractions": ([Fraction(1, 4), 1], [0.25, 1.0]),
    "no mask": (np.ma.array([1.0, 2.0], mask=False), [1.0, 2.0]),
    "tensors": ([torch.tensor(1.0), torch.tensor(2.0)], [1.0, 2.0]),
    "rows": ([np.array([1, 2]), np.array([3, 4])], [[1, 2], [3, 4]]),
    "rows of integers and floats": ([np.array([1, 2]), np.array([0.5, 4])], [[1, 2], [0.5, 4]]),
    "strings": (["a", "n\0b"], ["a", "n\0b"]),
    "the string nan": (["a", "nan"], ["a", "nan"]),
    "dates": ([datetime.date(2020, 1, 2)], [datetime.date(2020, 1, 2)]),
    "durations": (frame(pd.to_timedelta([1, 2], unit="s")), None),
    "times of pandas": (frame(pd.to_datetime(["2020-01-01 00:00:00.000000001"])), None),
    "infinity": ([np.inf, 1.0], [np.inf, 1.0]),
    "labelled": (xr.DataArray([1.0, 2.0], dims="x"), [1.0, 2.0]),
    "nothing": ([], []),
    "one number": (Decimal("0.1"), 0.1),
}


@pytest.mark.parametrize("name", KEPT)
def test_values_are_kept(name: str) -> None:
    value, expected = KEPT[name]
    column = to_column(value)
    if expected is None:
        expected = np.asarray(value).tolist()
        assert column.dtype == value.to_numpy().dtype
    assert column.tolist() == expected


REFUSED: dict[str, tuple[Any, str]] = {
    "masked": (np.ma.array([1.0, -999.0, 3.0], mask=[0, 1, 0]), r"x is missing \(NaN\) at row 1"),
    "masked in a list": ([np.ma.array([1.0, 2.0], mask=[0, 1])], r"missing \(NaN\) at index \[0, 1\]"),
    "the masked element": ([1.0, np.ma.masked], r"missing \(NaN\) at row 1"),
    "uint64 beyond int64": (np.array([1, 2**63], np.uint64), "at row 1 is an integer beyond 64 bits"),
    "uint64 tensor": (torch.tensor([2**63], dtype=torch.uint64), "at row 0 is an integer beyond 64 bits"),
    "integer of 400 digits": ([1, 10**400], "at row 1 is an integer beyond 64 bits"),
    "large integer among floats": ([0.5, BIG], "at row 1 is 9007199254740993"),
    "large integer in rows": ([[0.5, 1], [BIG, 1]], r"at index \[1, 0\] is 9007"),
    "huge integer among floats": ([0.5, 10**400], "at row 1 is 1000"),
    "complex": (frame([1 + 2j]), "complex numbers"),
    "complex objects": ([1 + 2j, 1], "complex"),
    "complex tensor": (torch.tensor([1j]), "complex numbers"),
    "mixed": (["a", 1], "at row 1 holds numbers where rows before it hold strings"),
    "mixed objects": (frame([1, "a"], dtype=object), "at row 1 holds strings"),
    "mixed truths": ([True, 2], "at row 1 holds numbers where rows before it hold truths"),
    "a hole among strings": (["a", None], r"missing \(NaN\) at row 1"),
    "NaN among strings": (["a", float("nan")], r"missing \(NaN\) at row 1"),
    "no time": (np.array(["2020", "NaT"], "M8[D]"), r"missing \(NaN\) at row 1"),
    "nullable with a hole": (frame([1, None], dtype="Int64"), r"missing \(NaN\) at row 1"),
    "periods": (frame(pd.period_range("2020", periods=2, freq="M")), "holds Period"),
    "intervals": (pd.Series(pd.cut([1.0, 5.0], 2)), "holds Interval"),
    "time zone": (frame(pd.to_datetime(["2020-01-01"]).tz_localize("UTC")), "a time with a zone"),
    "records": (np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]), "holds records"),
    "long decimals": ([Decimal("0.12345678901234567890")], "at row 0 is 0.123"),
    "long doubles": (
        np.array([1, 1 + np.finfo(np.longdouble).eps], np.longdouble),
        "at row 1 has more digits",
    ),
    "trailing NUL": (["a", "b\0"], "at row 1 ends in a NUL"),
    "ragged": ([[1, 2], [3]], r"at row 1 has shape \(1,\)"),
    "dicts": ([{"a": 1}], "holds dict"),
    "a set": ({1, 2}, "holds set"),
    "unit": (quantity(), "has the unit km"),
    "unit of a label": (xr.DataArray([1.0], attrs={"units": "m"}), "has the unit m"),
    "gradient": (torch.nn.Parameter(torch.ones(2)), "requires a gradient"),
    "meta": (torch.ones(2, device="meta"), "device meta"),
    "500 lists": (json.loads("[" * 90 + "1" + "]" * 90), "is no array|more dimensions|must be|holds"),
    "wide strings": (["a"] * 1000 + ["b" * 1_000_000], "GB as a column"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_change_is_refused(name: str) -> None:
    value, words = REFUSED[name]
    with pytest.raises(UnfitValueError) as error:
        to_column(value)
    with pytest.raises(ModelError, match=words):
        raise ModelError(error.value.sentence("x"))


def test_a_column_is_refused_where_it_is_read(tmp_path: Path) -> None:
    table = pd.DataFrame({"y": [1.0, 2.0], "note": ["x", None], "age": [None, 3.0]})
    table.to_csv(tmp_path / "d.csv", index=False)
    data = open_data("d.csv", base=tmp_path)
    for same in (data, pickle.loads(pickle.dumps(data)), open_data(data), data.copy(), data | {"z": 1}):
        assert same["y"].tolist() == [1.0, 2.0] and "note" in same
        for read in (
            lambda d: d["age"],
            lambda d: d.get("age"),
            dict,
            lambda d: {**d},
            lambda d: [*d.values()],
        ):
            with pytest.raises(ModelError, match="is missing"):
                read(same)
    assert digest(data) == digest(open_data("d.csv", base=tmp_path))
    assert digest(data) != digest(open_data("d.csv", base=tmp_path, columns=["y"]))
    assert isinstance(data, Data) and [*open_data("d.csv", base=tmp_path, columns=["y"])] == ["y"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("d.csv", "y,y\n1,2\n", "two columns are called y"),
        ("d.csv", "a,b\n1,2,3\n", "the first row has 3 fields and the header 2 names"),
        ("d.csv", "y\n0.5\n9007199254740993\n", "y at row 1 is 9007199254740993"),
        ("d.csv", "y\n0.5\n1e400\n", "y at row 1 is 1e400"),
        ("d.json", '{"y": [1], "y": [2]}', "two columns are called y"),
        ("d.json", '{"y": [1e400]}', "the number 1e400 is beyond"),
        ("d.json", "[" * 100_000, "cannot be read as json"),
        ("d.json", "", "cannot be read as json"),
        ("d.npz", "", "cannot be read as npz"),
        ("d.csv", "", "cannot be read as csv"),
        ("d.csv", ",".join(map(str, range(100_000))) + "\n" + ",".join("0" * 100_000), "more than 10000"),
    ],
)
def test_files_that_would_change_are_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ModelError, match=words) as error:
        open_data(name, base=tmp_path)["y"]
    assert error.value.path == str(tmp_path / name)


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "whole.npz", y=np.ones(100))
    content = (tmp_path / "whole.npz").read_bytes()
    for part in (1, 30, len(content) // 2, len(content) - 1):
        (tmp_path / "d.npz").write_bytes(content[:part])
        with pytest.raises(ModelError, match="cannot be read as npz"):
            open_data("d.npz", base=tmp_path)["y"]


def test_two_columns_of_one_name_and_unknown_names_are_refused() -> None:
    twice = pd.concat([pd.DataFrame({"y": [1.0]})] * 2, axis=1)
    with pytest.raises(ModelError, match="two columns are called y; rename one"):
        open_data(twice)
    with pytest.raises(ModelError, match=r"no column z .*allowed: y"):
        open_data({"y": [1.0]}, columns=["z"])
    with pytest.raises(ModelError, match="there are no data that have columns"):
        open_data(None, columns=["z"])


def test_a_csv_keeps_its_digits(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=2000) * 10.0 ** np.arange(-50, 50).repeat(20)
    pd.DataFrame({"y": numbers}).to_csv(tmp_path / "d.csv", index=False)
    assert open_data("d.csv", base=tmp_path)["y"].tolist() == numbers.tolist()


def test_integers_of_a_csv_that_no_number_holds_are_text_or_refused(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("y\n1\n18446744073709551617\n")
    column = open_data("d.csv", base=tmp_path).stored()["y"]
    assert isinstance(column, ModelError) or column.tolist() == ["1", "18446744073709551617"]
