"""Whom a winner is compared with."""

from __future__ import annotations

import pandas as pd
import pytest

from vi_dist.report.judging import close


@pytest.mark.parametrize(
    ("gap", "error", "own_error", "is_close"),
    [
        (0.05, 0.001, 0.001, True),
        (0.0, 0.05, 0.05, True),
        (0.11, 0.001, 0.001, False),
        (0.11, 0.09, 0.001, False),
        (0.05, 0.2, 0.001, False),
        (0.05, 0.001, 0.2, False),
    ],
)
def test_close_is_near_and_known_to_be(gap: float, error: float, own_error: float, is_close: bool) -> None:
    behind = pd.DataFrame({"key": ["a"], "elbo": [-7.0 - gap], "elbo_se": [error]})
    assert close({"elbo": -7.0, "elbo_se": own_error}, behind)["key"].tolist() == ["a"] * is_close
