"""Reference posteriors on disk: mean and standard deviation of every element by its name."""

from __future__ import annotations

import json
import math
from pathlib import Path

from vi_dist.errors import SpecError

FORM = '{"mu": {"mean": 1.5, "sd": 0.2}, "beta[0]": {...}}'


def read_reference(path: str | Path) -> dict[str, tuple[float, float]]:
    """Means and standard deviations from a JSON file, ``{"beta[0]": {"mean": 0.69, "sd": 0.07}, ...}``.

    Raises `SpecError` for a file that cannot be read, and for an element without two finite numbers.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(f"{path} is no reference that can be read: {error}", key="reference") from error
    if not isinstance(content, dict) or not content:
        raise SpecError(f"{path} holds no elements by name", key="reference", allowed=(FORM,))
    return {str(name): _moments(name, value, path) for name, value in content.items()}


def _moments(name: str, value: object, path: str | Path) -> tuple[float, float]:
    found = [value.get(key) for key in ("mean", "sd")] if isinstance(value, dict) else []
    numbers = [float(one) for one in found if isinstance(one, int | float) and math.isfinite(one)]
    if len(numbers) != 2 or numbers[1] < 0:
        raise SpecError(f"{name} in {path} has no mean and sd: {value!r}", key="reference", allowed=(FORM,))
    return numbers[0], numbers[1]
