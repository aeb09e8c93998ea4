from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vi_dist.errors import SpecError
from vi_dist.sweep.catalogue import Catalogue
from vi_dist.sweep.space import resolve
from vi_dist.sweep.spec import SweepSpec, load_spec, make_spec

numbers = st.floats(1e-6, 1.0)
ranges = st.tuples(numbers, numbers, st.booleans()).filter(lambda found: found[0] < found[1])
scalars = (
    numbers
    | st.integers(1, 9)
    | st.sampled_from(["relu", "1e-3", "yes", "null", "12", "a: b"])
    | st.booleans()
)


def _range(found: tuple[float, float, bool]) -> dict[str, Any]:
    return {"low": found[0], "high": found[1], "log": found[2]}


arguments: st.SearchStrategy[Any] = scalars | st.lists(
    scalars, min_size=1, max_size=3, unique_by=lambda x: float(x) if x != str(x) else x
)
arguments = arguments | ranges.map(_range)
names = st.text("abcdefgh_", min_size=1, max_size=8).filter(lambda name: name not in ("low", "high"))
entries = names | st.dictionaries(
    names, st.dictionaries(names, arguments, max_size=2), min_size=1, max_size=1
)
choices = st.lists(
    entries,
    min_size=1,
    max_size=3,
    unique_by=lambda entry: next(iter(entry)) if isinstance(entry, dict) else entry,
)
spaces = st.fixed_dictionaries(
    {"guide": choices},
    optional={
        "divergence": choices,
        "optimizer": choices,
        "learning_rate": st.lists(numbers, min_size=1, unique=True) | ranges.map(_range),
        "seed": st.lists(st.integers(0, 99), min_size=1, unique=True) | st.just({"low": 0, "high": 9}),
        "num_samples": st.integers(1, 64),
    },
)
specs = st.fixed_dictionaries(
    {"name": st.text("abc09_-", min_size=1).filter(lambda name: name[0].isalnum()), "space": spaces},
    optional={
        "steps": st.integers(1, 10_000),
        "seed": st.integers(0, 99),
        "optimizer": names,
        "pack_size": st.just("auto") | st.integers(1, 99),
        "evaluation": st.fixed_dictionaries({"samples": st.integers(2, 9999)}),
        "tracking_uri": st.sampled_from(["sqlite:///mlflow.db", "http://127.0.0.1:5000"]),
        "gpus_per_actor": st.floats(0, 1),
    },
).map(lambda found: found | {"search": "random", "configurations": 3})


def _keys_turned(value: Any) -> Any:
    """The same plain data with the keys of every mapping in the opposite order."""
    if isinstance(value, dict):
        return {key: _keys_turned(value[key]) for key in reversed(value)}
    return [_keys_turned(item) for item in value] if isinstance(value, list) else value


@given(specs)
def test_a_spec_survives_yaml_and_the_order_of_its_keys(
    tmp_path_factory: pytest.TempPathFactory, values: Any
) -> None:
    spec = make_spec(values)
    path = tmp_path_factory.getbasetemp() / "spec.resolved.yaml"
    path.write_text(spec.to_yaml(), encoding="utf-8")
    again = load_spec(path, needs_model=False)
    assert again == spec
    assert again.to_yaml() == spec.to_yaml()
    assert make_spec(_keys_turned(values)) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_the_issues_spec_means_what_it_says(german_credit: str, write: Callable[[str], Path]) -> None:
    path = write(german_credit)
    spec = load_spec(path)
    assert spec.model == f"{path.parent.resolve()}/model.py:build"
    assert spec.data == f"{path.parent.resolve()}/german_credit.npz"
    assert (spec.search, spec.configurations, spec.steps, spec.evaluation.samples) == (
        "random",
        32,
        2000,
        4096,
    )
    assert spec.to_dict()["space"] == {
        "guide": ["mean_field", "full_rank", {"low_rank": {"rank": [2, 4]}}],
        "divergence": ["kl_reverse", "kl_forward", {"amari": {"alpha": 0.5}}],
        "estimator": ["auto"],
        "learning_rate": {"low": 0.001, "high": 0.1, "log": True},
        "seed": [0, 1, 2],
    }
    assert spec.source.path == path


def test_the_resolved_spec_reads_back_from_another_folder(
    german_credit: str, write: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    spec = load_spec(write(german_credit))
    elsewhere = tmp_path_factory.mktemp("output") / "spec.resolved.yaml"
    elsewhere.write_text(spec.to_yaml())
    assert load_spec(elsewhere) == spec
    assert load_spec(elsewhere) != load_spec(elsewhere, {"steps": 1})
    assert spec != "a spec"


def test_defaults() -> None:
    spec = make_spec({"name": "a", "space": {"seed": [0]}})
    assert spec.to_dict() == {
        "name": "a",
        "space": {"seed": [0]},
        "search": "grid",
        "steps": 2000,
        "num_samples": 8,
        "optimizer": "adam",
        "schedule": "constant",
        "initialisation": "prior_median",
        "averaging": 0.1,
        "seed": 0,
        "executor": "ray",
        "pack_size": "auto",
        "compile": "auto",
        "dtype": "float32",
        "evaluation": {"samples": 4096},
        "objective": "elbo",
        "cpus_per_actor": 1.0,
    }
    assert {spec.model, spec.data, spec.configurations, spec.output_dir, spec.max_actors} == {None}


def test_python_values_are_as_good_as_yaml() -> None:
    from_python = {
        "guide": ("mean_field",),
        "learning_rate": np.logspace(-3, -1, 3),
        "seed": range(3),
        "optimizer": {"sgd": {"momentum": np.float64(0.9)}},
    }
    from_yaml = yaml.safe_load(
        "{guide: mean_field, learning_rate: [1e-3, 0.01, 1.0e-1], seed: [0, 1, 2],"
        " optimizer: {sgd: {momentum: .9}}}"
    )
    assert make_spec({"name": "a", "space": from_python}) == make_spec({"name": "a", "space": from_yaml})


def test_a_fault_in_python_has_a_key_and_no_file(catalogue: Catalogue) -> None:
    with pytest.raises(SpecError) as caught:
        resolve(make_spec({"name": "a", "space": {"guide": ["mean_feild"]}}), catalogue)
    assert (caught.value.path, caught.value.key) == (None, "space.guide[0]")


def test_overrides_replace_and_delete(german_credit: str, write: Callable[[str], Path]) -> None:
    path = write(german_credit)
    spec = load_spec(
        path,
        {"search": "grid", "configurations": None, "space.learning_rate": "1e-2", "evaluation.samples": 64},
    )
    assert (spec.search, spec.configurations, spec.evaluation.samples) == ("grid", None, 64)
    assert spec.to_dict()["space"]["learning_rate"] == [0.01]
    assert "seed" not in load_spec(path, {"space.seed": None}).space


def test_paths_start_from_the_specs_folder(
    german_credit: str, write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write(german_credit + "output_dir: out\n")
    monkeypatch.chdir(tmp_path.parent)
    relative = Path(path.parent.name, path.name)
    spec = load_spec(relative)
    assert spec.output_dir == str(path.parent.resolve() / "out")
    assert spec.source.path == relative
    urls = load_spec(path, {"data": "s3://bucket/rows.parquet", "output_dir": "gs://bucket/out"})
    assert (urls.data, urls.output_dir) == ("s3://bucket/rows.parquet", "gs://bucket/out")


def test_every_key_has_its_type_in_the_model() -> None:
    assert set(SweepSpec.model_fields) >= set(make_spec({"name": "a", "space": {"seed": 0}}).to_dict())


def test_the_layer_brings_in_no_engine_and_no_tracker() -> None:
    modules = sorted(f"vi_dist.sweep.{file.stem}" for file in Path(*_sweep().__path__).glob("*.py"))
    code = (
        f"import sys, {', '.join(modules)}; sys.exit(bool({{'torch', 'ray', 'mlflow'}} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _sweep() -> Any:
    import vi_dist.sweep

    return vi_dist.sweep
