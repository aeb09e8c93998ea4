"""A traced map on disk: the same bits as in memory, and nothing but known operators."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Dirichlet, LKJCholesky, Normal

from vi_dist.api.checks import as_arrays
from vi_dist.checked_files import read_json, replace_file, sealed_json
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.prepared import PreparedModel
from vi_dist.cluster.setup import Setup
from vi_dist.errors import DamagedFile
from vi_dist.model.decorators import functional, random_variable
from vi_dist.model.model import Model
from vi_dist.sweep.spec import load_spec
from vi_dist.vi.graph import trace
from vi_dist.vi.graph_file import Unstorable, read_map, write_map
from vi_dist.vi.graph_operators import name_of, operator_of

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
# The data of the others are not in the repository.
SPECS = [
    path
    for path in sorted(EXPERIMENTS.glob("*/sweep.yaml"))
    if path.parent.name not in ("flights", "babynames")
]


def stored(graph: Any, folder: Path) -> Callable[[Tensor], dict[str, Tensor]]:
    write_map(graph, folder / "map.json", folder / "map.safetensors")
    return read_map(folder / "map.json", folder / "map.safetensors")


def assert_same(prepared: PreparedModel, folder: Path) -> None:
    graph = prepared.constrain.graph
    assert graph is not None
    start = prepared.shared_start
    noise = torch.randn(7, len(start), generator=torch.Generator().manual_seed(3), dtype=start.dtype)
    expected = torch.vmap(graph)(start + noise)
    found = torch.vmap(stored(graph, folder))(start + noise)
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        assert found[name].numpy().tobytes() == values.numpy().tobytes()


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.parent.name)
def test_the_maps_of_all_experiments_come_back_to_the_last_bit(path: Path, tmp_path: Path) -> None:
    spec = load_spec(path)
    setup = Setup(BuildSource(path=spec.model or ""), as_arrays(spec.data))
    for dtype in (torch.float32, torch.float64):
        assert_same(PreparedModel(setup, dtype), tmp_path)


def build() -> Model:
    """Latents of many kinds, classes that are summed out, and queries with linear algebra."""

    @random_variable
    def weights() -> Any:
        return Dirichlet(torch.ones(3))

    @random_variable
    def factor() -> Any:
        return LKJCholesky(3, 1.5)

    @random_variable
    def classes() -> Any:
        return Categorical(weights().expand(4, 3))

    @random_variable
    def y() -> Any:
        return Normal(classes().to(weights().dtype), 1.0)

    @functional
    def covariance() -> Tensor:
        product = factor() @ factor().mT + torch.eye(3)
        return torch.linalg.inv(product) + torch.linalg.cholesky(product)

    @functional
    def correlation() -> Tensor:
        product = factor() @ factor().mT
        return torch.where(product > math.inf, math.nan, product).sum(-1).clamp(max=math.inf)

    return Model([weights(), classes(), covariance(), correlation()], {y(): torch.arange(4.0)})


def test_linear_algebra_and_classes_come_back_to_the_last_bit(tmp_path: Path) -> None:
    assert_same(PreparedModel(Setup(BuildSource(function=build)), torch.float64), tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "aten.from_file.default",
        "aten.add.out",
        "aten.normal.Tensor_Tensor",
        "aten.add",
        "aten.__class__.default",
        "aten.add.__class__",
        "aten.add.Tensor.op",
        "prims.add.default",
        "os.system",
        "",
    ],
)
def test_only_operators_of_the_list_are_known(name: str) -> None:
    with pytest.raises(ValueError, match="not one of the operators"):
        operator_of(name)


def test_an_operator_is_known_by_its_name() -> None:
    assert operator_of("aten.mul.Tensor") is torch.ops.aten.mul.Tensor
    assert name_of(torch.ops.aten.mul.Tensor) == "aten.mul.Tensor"
    assert name_of(torch.ops.aten.bernoulli.default) is None
    assert name_of(print) is None


def test_a_graph_with_another_operator_is_not_stored(tmp_path: Path) -> None:
    def noisy(row: Tensor) -> dict[str, Tensor]:
        return {"x": torch.rand_like(row)}

    with pytest.raises(Unstorable, match=r"aten\.rand_like\.default is not one of the operators"):
        write_map(trace(noisy, torch.ones(2)), tmp_path / "map.json", tmp_path / "map.safetensors")
    assert not list(tmp_path.iterdir())


def node(**changes: Any) -> dict[str, Any]:
    return {"op": "aten.mul.Tensor", "args": [{"node": 0}, 2.0], "kwargs": {}, **changes}


@pytest.mark.parametrize(
    "planted",
    [
        node(op="os.system", args=["true"]),
        node(op="aten.from_file.default", args=["/etc/hostname"]),
        node(args=[{"node": 1}, 2.0]),
        node(args=[{"node": -1}, 2.0]),
        node(args=[{"node": True}, 2.0]),
        node(args=[{"dtype": "__class__"}]),
        node(args=[{"pickle": "gASV"}]),
        node(args=[{"node": 0, "dtype": "float32"}]),
        {"constant": "1"},
        {"op": "aten.mul.Tensor"},
        [],
    ],
)
def test_anything_else_in_a_file_is_refused(planted: Any, tmp_path: Path) -> None:
    graph = trace(lambda row: {"x": row * 2.0 + torch.arange(2.0)}, torch.ones(2))
    assert torch.equal(stored(graph, tmp_path)(torch.ones(2))["x"], torch.tensor([2.0, 3.0]))
    file = tmp_path / "map.json"
    data = read_json(file)
    replace_file(file, sealed_json({**data, "nodes": [planted, *data["nodes"][1:]]}))
    with pytest.raises(
        DamagedFile, match=r"map\.json: is damaged: it cannot be read as a map of known operators"
    ):
        read_map(file, tmp_path / "map.safetensors")


def test_arguments_that_json_has_no_form_for_come_back(tmp_path: Path) -> None:
    def odd(row: Tensor) -> dict[str, Tensor]:
        filled = torch.full((2,), -math.inf, dtype=torch.float64)
        return {
            "a": torch.where(row > math.inf, math.nan, row).to(torch.int32),
            "b": filled.clamp(max=math.inf),
        }

    graph = trace(odd, torch.ones(2))
    found, expected = stored(graph, tmp_path)(torch.ones(2)), graph(torch.ones(2))
    assert json.loads((tmp_path / "map.json").read_text())["outputs"].keys() == {"a", "b"}
    for name, values in expected.items():
        assert torch.equal(found[name], values)
        assert found[name].dtype == values.dtype
