"""Draws from a sweep's configurations, and the verdict on its winner."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from vi_dist.evaluation.verdict import Verdict
from vi_dist.report import judging
from vi_dist.report.stored_draws import DRAWS, Drawer, Draws, stored_drawer

if TYPE_CHECKING:
    from vi_dist.api.sweep_result import SweepResult


def judged(result: SweepResult) -> Verdict:
    """Judge a sweep's winner. Raises `LookupError` if nothing could be ranked."""
    return judging.judged(result.dataframe(), result.drawer, result.spec.evaluation.samples)


def drawer(result: SweepResult) -> Drawer:
    """Draws from what the sweep's directory holds; where its queries could not be traced, from the model itself."""
    stored = stored_drawer(result.directory)

    @cache
    def draw(key: str) -> Draws:
        try:
            return stored(key)
        except LookupError as error:
            try:
                return {name: values.numpy() for name, values in result.get(key).sample(DRAWS).items()}
            except ValueError:
                raise error from None

    return draw
