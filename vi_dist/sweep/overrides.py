"""Overrides of a spec by dotted key, as ``--set space.seed=[0,1]`` gives them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vi_dist.errors import SpecError
from vi_dist.sweep.values import MOST_LEVELS, plain, show
from vi_dist.sweep.yaml_file import parse_yaml

_FORM = "key=value, for example space.seed=[0,1]"


def parse_overrides(texts: Iterable[str]) -> dict[str, Any]:
    """``["steps=500", "space.seed=[0,1]"]`` as a mapping of dotted keys, the values read as YAML.

    Raises:
        SpecError: no ``=``, no key, a key twice, a value that is not YAML.
    """
    overrides: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise SpecError(f"{show(text)} is not an override", key="--set", allowed=(_FORM,))
        if key in overrides:
            raise SpecError("set twice; keep one", key=key)
        try:
            overrides[key] = parse_yaml(value)
        except SpecError as error:
            raise SpecError(f"{show(value)}: {error.message}", key=key) from None
    return overrides


def apply_overrides(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with each dotted key replaced; a mapping that is not there is made, and None deletes the key.

    Raises:
        SpecError: a dotted key that leads through something that is no mapping.
    """
    changed = dict(values)
    for dotted, value in overrides.items():
        *above, last = dotted.split(".")
        if len(above) >= MOST_LEVELS:
            raise SpecError(f"{show(dotted)} has more than {MOST_LEVELS} parts; a spec has six", key="--set")
        place = changed
        for depth, name in enumerate(above):
            inner = place.get(name)
            inner = {} if inner is None else inner
            if not isinstance(inner, dict):
                at = ".".join(above[: depth + 1])
                cure = f"lists and values are replaced whole: {at}=..."
                raise SpecError(f"{at} is {show(inner)}, which has no keys; {cure}", key=dotted)
            place[name] = dict(inner)
            place = place[name]
        if value is None:
            place.pop(last, None)
        else:
            place[last] = plain(value)
    return changed
