"""Where a model's `build` comes from: a function in a file, found by path, or one that travels by cloudpickle."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from vi_dist.cluster.fault import place_of_fault
from vi_dist.errors import ModelError, SpecError
from vi_dist.sweep.values import show

Build = Callable[..., Any]

# Modules by name, which holds path and content: an edited file is loaded anew.
_modules: dict[str, ModuleType] = {}
_unpickled: dict[str, Build] = {}


@dataclass(frozen=True)
class BuildSource:
    """A `build` function that any process can get hold of.

    Args:
        path: ``/somewhere/model.py:build``; empty for a function.
        function: the function itself, if there is no path.
    """

    path: str = ""
    function: Build | None = None

    @property
    def file(self) -> str | None:
        """The file that holds the function, if it is known by path."""
        return self.path.rpartition(":")[0] or None

    def file_digest(self) -> str:
        """SHA-256 of the file that holds the function, which is read and not run; empty if there is none.

        Raises `ModelError` if the file cannot be read.
        """
        if self.file is None:
            return ""
        try:
            return hashlib.sha256(Path(self.file).read_bytes()).hexdigest()
        except OSError as error:
            raise ModelError(
                f"the model cannot be read: {error.strerror}", path=self.file, key="model"
            ) from None

    def load(self) -> Build:
        """The function; a file is run once per process. Raises `ModelError` if it is not there or does not run."""
        if self.function is not None:
            return self.function
        file, _, name = self.path.rpartition(":")
        module = _load_module(Path(file))
        build = getattr(module, name, None)
        if not callable(build):
            raise ModelError(
                f"{name!r} is not a function in this file", path=file, key="model", allowed=_functions(module)
            )
        return build

    def version(self) -> str:
        """What a configuration's key knows of the code: ours by version, the model's by a digest of its source."""
        try:
            ours = version("vi_dist")
        except PackageNotFoundError:
            ours = "0"
        return f"{ours}-{self.digest()}"

    def digest(self) -> str:
        """Sixteen hex digits of the model's source and of which function in it the model is."""
        text = f"{self._name()}\n{self._text()}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _name(self) -> str:
        """Which function of its file it is: one file may hold several."""
        return self.path.rpartition(":")[2] if self.function is None else _name_of(self.function)

    def _text(self) -> str:
        if self.function is None:
            return Path(self.path.rpartition(":")[0]).read_text(encoding="utf-8", errors="replace")
        function = _unwrapped(self.function)
        for where in (inspect.getmodule(function), function, type(function)):
            try:
                return inspect.getsource(where)  # type: ignore[arg-type]
            except (OSError, TypeError):
                continue
        return ""

    def __reduce__(self) -> tuple[Any, ...]:
        if self.function is None:
            return BuildSource, (self.path,)
        return _unpickle, (_by_value(self.function),)


def check_build(build: object) -> None:
    """Raise `SpecError` for what is neither a function nor ``FILE.py:FUNCTION``; None is no build at all."""
    if build is None or callable(build):
        return
    file, colon, function = build.rpartition(":") if isinstance(build, str) else ("", "", "")
    if not (colon and file and function.isidentifier()):
        reason = f"{show(build)} is not a function that builds a Model"
        raise SpecError(reason, key="build", allowed=("a function", "FILE.py:FUNCTION"))


def _unwrapped(function: Build) -> Build:
    """The function behind any number of partials."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _name_of(function: Build) -> str:
    """A function's name, with the plain values that it was given beforehand or encloses; the same in every process."""
    given: list[object] = []
    while isinstance(function, functools.partial):
        given += [*function.args, *function.keywords, *function.keywords.values()]
        function = function.func
    given += [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    plain = [value for value in given if value is None or isinstance(value, str | int | float)]
    return f"{getattr(function, '__qualname__', type(function).__qualname__)} {plain!r}"


def _by_value(function: Build) -> bytes:
    """The function with its module's globals, unless the module is installed and so everywhere."""
    module = inspect.getmodule(function)
    installed = tuple(sysconfig.get_paths()[kind] for kind in ("stdlib", "purelib", "platlib"))
    file = getattr(module, "__file__", None)
    if module is None or file is None or file.startswith(installed) or module.__name__ == "__main__":
        return cloudpickle.dumps(function)
    cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(function)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _unpickle(content: bytes) -> BuildSource:
    """The source again; equal bytes give the same function, whose random variables are then the same too."""
    digest = hashlib.sha256(content).hexdigest()
    if digest not in _unpickled:
        _unpickled[digest] = cloudpickle.loads(content)
    return BuildSource(function=_unpickled[digest])


def _load_module(file: Path) -> ModuleType:
    """The file as a module, its folder importable, run once per process and content."""
    try:
        content = file.read_bytes()
    except (OSError, ValueError) as error:  # a ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(f"the model cannot be read: {reason}", path=file, key="model") from None
    digest = hashlib.sha256(bytes(file) + b"\0" + content).hexdigest()[:12]
    name = f"{file.stem}_{digest}"
    if name in _modules:
        return _modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ModelError("the model is not a Python file", path=file, key="model")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and pickle look their module up
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        what = f"the file does not run: {type(error).__name__}: {error}{place_of_fault(error, str(file))}"
        raise ModelError(what, path=file, key="model") from error
    _modules[name] = module
    return module


def _functions(module: ModuleType) -> list[str]:
    """The functions that a model file defines itself, random variables and the like left out."""
    return [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
        and not hasattr(value, "is_random_variable")
    ]
