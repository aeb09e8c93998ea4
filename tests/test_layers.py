"""The order of imports that DESIGN promises, read off the syntax trees."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "vi_dist"
LAYERS = ["model", "vi", "evaluation", "sweep", "tracking", "report", "cluster", "api", "cli"]  # low to high
FREE_OF_RAY_AND_MLFLOW = {"model", "vi", "evaluation", "sweep"}
# What an inline function may import later is left out: these must not be needed at all.
FREE_OF_TORCH = {"sweep"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def _imports(path: Path) -> list[tuple[int, str]]:
    """Line and dotted name of everything a file imports, wherever in the file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def _layer(path: Path) -> str | None:
    folder = path.relative_to(PACKAGE).parts[0]
    return folder if folder in LAYERS else None


def test_every_folder_is_a_layer() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_go_down(path: Path) -> None:
    mine = _layer(path)
    if mine is None:
        return
    for line, name in _imports(path):
        top, *rest = name.split(".")
        theirs = rest[0] if top == "vi_dist" and rest and rest[0] in LAYERS else None
        if theirs is not None:
            assert LAYERS.index(theirs) <= LAYERS.index(mine), (
                f"{path}:{line}: {mine} imports {theirs}, above it"
            )
        if mine in FREE_OF_RAY_AND_MLFLOW:
            assert top not in {"ray", "mlflow"}, f"{path}:{line}: {mine} imports {top}"
        if mine in FREE_OF_TORCH:
            assert top != "torch", f"{path}:{line}: {mine} imports torch"


def _package_imports() -> dict[str, set[str]]:
    """The modules of the package that each of them imports, for type checking alone too."""
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in MODULES}
    names = {
        name.removesuffix(".__init__"): path for name, path in names.items() if name != "vi_dist.__init__"
    }
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        imported = {part for _, whole in _imports(path) for part in (whole, whole.rpartition(".")[0])}
        found[name] = (imported & set(names)) - {name}
    return found


def test_no_module_imports_itself_by_way_of_others() -> None:
    """What imports nothing that is left is taken away again and again; what stays is in a circle or leads to one."""
    left = _package_imports()
    while free := {name for name, imported in left.items() if not imported & set(left)}:
        left = {name: imported for name, imported in left.items() if name not in free}
    assert not left, f"imports in a circle among {sorted(left)}"


def _loaded_by(statement: str, *heavy: str) -> list[str]:
    """The heavy packages that a statement loads in a fresh process."""
    program = f"import sys; {statement}; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_the_package_brings_in_nothing_heavy() -> None:
    assert _loaded_by("import vi_dist", "torch", "ray", "mlflow", "numpy", "pandas") == []


def test_the_language_needs_torch_alone() -> None:
    statement = "from vi_dist import World, Model, random_variable, VariationalInfer, ADVI"
    assert _loaded_by(statement, "torch", "ray", "mlflow", "pandas", "optuna", "arviz") == ["torch"]


def test_the_sweep_layer_loads_no_torch() -> None:
    names = sorted(path.stem for path in (PACKAGE / "sweep").glob("*.py") if path.stem != "__init__")
    statement = "; ".join(f"import vi_dist.sweep.{name}" for name in names)
    assert _loaded_by(statement, "torch", "ray", "mlflow") == []
