"""From pydantic's report to the one `SpecError` that its reader should fix first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from vi_dist.errors import SpecError
from vi_dist.sweep.dimension import DIMENSIONS
from vi_dist.sweep.values import show, unknown

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_TOP_LEVEL = "it belongs at the top level"
_EXAMPLES = {
    "name": "name: my_sweep",
    "space": "space: {guide: [mean_field, full_rank]}",
    "budget.minutes": "budget: {minutes: 30}",
}
_REQUIRED = {"name": ("text",), "space": tuple(DIMENSIONS), "budget.minutes": ("a number, greater than 0",)}


def first_fault(error: ValidationError, model: type[BaseModel]) -> SpecError:
    """An unknown key before anything else, since a misspelt key is often why another one is missing."""
    faults = error.errors(include_url=False)
    fault = min(faults, key=lambda found: found["type"] != "extra_forbidden")
    key = ".".join(map(str, fault["loc"]))
    fields = _fields(fault, model)
    if fault["type"] == "extra_forbidden":
        name = str(fault["loc"][-1])
        return unknown("key", name, fields, key, _place_cure(name, fault, model))
    if fault["type"] == "missing":
        return SpecError(f"the spec has no {key}; add {_EXAMPLES[key]}", key=key, allowed=_REQUIRED[key])
    cause = fault.get("ctx", {}).get("error")
    if isinstance(cause, SpecError):
        above, _, name = (cause.key or "").rpartition(".")
        if above == "space" and name in model.model_fields and name not in DIMENSIONS:
            return unknown("dimension", name, DIMENSIONS, f"space.{name}", _TOP_LEVEL)
        return SpecError(cause.message, key=cause.key or key, allowed=cause.allowed)
    return SpecError(f"{show(fault['input'])} is not a mapping", key=key, allowed=_inner(key, model))


def _fields(fault: ErrorDetails, model: type[BaseModel]) -> tuple[str, ...]:
    """The keys allowed where a fault is."""
    found: Any = model
    for name in fault["loc"][:-1]:
        found = _model(found.model_fields[str(name)].annotation)
    return tuple(found.model_fields)


def _inner(key: str, model: type[BaseModel]) -> tuple[str, ...]:
    """The keys allowed inside a key that should hold a mapping."""
    found = _model(model.model_fields[key].annotation)
    return tuple(found.model_fields)


def _model(annotation: Any) -> Any:
    """The model that a key holds, which may also be absent (``Budget | None``)."""
    return next((one for one in get_args(annotation) if hasattr(one, "model_fields")), annotation)


def _place_cure(name: str, fault: ErrorDetails, model: type[BaseModel]) -> str:
    """The cure for a key that is right in another place, or nothing."""
    if len(fault["loc"]) == 1 and name in DIMENSIONS:
        value = fault["input"] if isinstance(fault["input"], list) else [fault["input"]]
        return f"it belongs in the space; write space: {{{name}: {show(value)}}}"
    return _TOP_LEVEL if len(fault["loc"]) > 1 and name in model.model_fields else ""
