"""Data from every source arrive as the same dict of tensors."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from vi_dist.errors import ModelError
from vi_dist.model.data import Data, digest, load_data, to_device

TABLE = {
    "y": np.array([1.5, -0.25, 1e-17]),
    "group": np.array([2, 0, 1]),
    "floor": np.array([True, False, True]),
    "name": np.array(["a", "bc", "d"]),
}


def as_dict(_: Path) -> object:
    return TABLE


def as_lists(_: Path) -> object:
    return {name: column.tolist() for name, column in TABLE.items()}


def as_tensors(_: Path) -> object:
    return {name: torch.as_tensor(TABLE[name]) if name != "name" else TABLE[name] for name in TABLE}


def as_frame(_: Path) -> object:
    return pd.DataFrame(TABLE)


def as_categories(_: Path) -> object:
    return pd.DataFrame(TABLE).astype({"name": "category", "group": "Int8"})


def as_npz(folder: Path) -> object:
    np.savez(folder / "table.npz", **TABLE)
    return "table.npz"


def as_csv(folder: Path) -> object:
    pd.DataFrame(TABLE).to_csv(folder / "table.csv", index=False)
    return "table.csv"


def as_parquet(folder: Path) -> object:
    pd.DataFrame(TABLE).to_parquet(folder / "table.parquet")
    return folder / "table.parquet"


def as_json(folder: Path) -> object:
    (folder / "table.json").write_text(json.dumps(as_lists(folder)))
    return Path("table.json")


def as_json_gz(folder: Path) -> object:
    with gzip.open(folder / "table.json.gz", "wt") as file:
        json.dump(as_lists(folder), file)
    return "table.json.gz"


SOURCES = [
    as_dict,
    as_lists,
    as_tensors,
    as_frame,
    as_categories,
    as_npz,
    as_csv,
    as_parquet,
    as_json,
    as_json_gz,
]


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_data(source: Any, tmp_path: Path) -> None:
    data = load_data(source(tmp_path), base=tmp_path)
    assert list(data) == list(TABLE)
    assert data["y"].dtype == torch.float64 and data["y"].tolist() == TABLE["y"].tolist()
    assert data["group"].dtype == torch.int64 and data["group"].tolist() == [2, 0, 1]
    assert data["floor"].dtype == torch.bool and data["floor"].tolist() == [True, False, True]
    assert isinstance(data["name"], np.ndarray) and data["name"].tolist() == ["a", "bc", "d"]
    assert digest(data) == digest(load_data(TABLE))


def test_no_data() -> None:
    assert load_data(None) == {}


def test_numbers_and_small_integers() -> None:
    data = load_data(
        {"n": 3, "scale": 0.5, "small": np.array([1, 2], dtype=np.int8), "big": np.array([1.0], ">f8")}
    )
    assert data["n"].dtype == torch.int64 and data["n"].shape == ()
    assert data["scale"].dtype == torch.float64 and data["small"].dtype == torch.int64
    assert data["big"].tolist() == [1.0]


def test_to_device_changes_floating_point_only() -> None:
    moved = to_device(load_data(TABLE), torch.float32, "cpu")
    assert [moved[name].dtype for name in ("y", "group", "floor")] == [torch.float32, torch.int64, torch.bool]
    assert moved["name"] is not None


def test_digest_sees_names_values_types_and_shapes_but_not_order() -> None:
    data = load_data(TABLE)
    reference = digest(data)
    assert digest(Data(reversed(data.items()))) == reference
    assert len(reference) == 64
    changed = [
        {**data, "y": data["y"] + 1e-9},
        {**data, "y": data["y"].float()},
        {**data, "y": data["y"][None]},
        {**data, "name": np.array(["a", "bc", "e"])},
        {name: value for name, value in data.items() if name != "name"},
        {("z" if name == "y" else name): value for name, value in data.items()},
    ]
    assert (
        reference not in {digest(Data(other)) for other in changed}
        and len({digest(Data(o)) for o in changed}) == 6
    )


@pytest.mark.parametrize("source", [as_dict, as_tensors, as_frame, as_npz, as_csv, as_parquet, as_json])
def test_missing_values_are_named(source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE, "y", np.array([1.5, np.nan, np.nan]))
    with pytest.raises(ModelError, match=r"y is missing \(NaN\) at row 1 \(and 1 more\)") as error:
        load_data(source(tmp_path), base=tmp_path)["y"]
    assert error.value.key == "data.y"
    assert (error.value.path is not None) == (source in (as_npz, as_csv, as_parquet, as_json))


def test_missing_strings_and_matrix_entries_are_named() -> None:
    with pytest.raises(ModelError, match=r"name is missing \(NaN\) at row 1;"):
        load_data(pd.DataFrame({"name": ["a", None]}))["name"]
    with pytest.raises(ModelError, match=r"x is missing \(NaN\) at index \[0, 1\]"):
        load_data({"x": np.array([[0.0, np.nan]])})["x"]
    with pytest.raises(ModelError, match=r"c is missing \(NaN\);"):
        load_data({"c": np.nan})["c"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "data of type int"),
        ({"x": [[1, 2], [3]]}, r"x at row 1 has shape \(1,\) where row 0 has \(2,\)"),
        ({"x": None}, "x holds NoneType"),
        ({"x": {"y": 1}}, "x holds dict"),
        ({1: [0.0]}, "the column name 1 is not a string"),
        ("nowhere.npz", "there is no such file"),
        ("table.xlsx", "table.xlsx is no data file"),
    ],
)
def test_what_is_no_data_is_refused(source: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        load_data(source, base=tmp_path)["x"]


@pytest.mark.parametrize("name", ["broken.npz", "broken.json", "broken.parquet"])
def test_a_broken_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{")
    with pytest.raises(ModelError, match="the file cannot be read as") as error:
        load_data(name, base=tmp_path)
    assert error.value.path == str(tmp_path / name)


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", x=np.array([{}, {}], dtype=object))
    with pytest.raises(ModelError, match="cannot be read as npz"):
        load_data("objects.npz", base=tmp_path)["x"]


def test_the_language_and_interactive_inference_need_torch_alone() -> None:
    absent = ["numpy", "pandas", "pyarrow", "scipy", "ray", "mlflow", "pydantic", "optuna", "zuko", "arviz"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent})); import warnings; warnings.simplefilter('ignore');"
        "import torch, vi_dist as bm, vi_dist.model.data, vi_dist.model.model;"
        "x = bm.random_variable(lambda: torch.distributions.Gamma(2.0, 1.0));"
        "assert bm.ADVI([x()], {}).infer(2)[x()] > 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
