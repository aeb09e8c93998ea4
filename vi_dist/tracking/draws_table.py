"""Draws of several quantities as one table: a row per draw, a column per element."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd


def column_names(name: str, shape: tuple[int, ...]) -> list[str]:
    """The names of a quantity's elements, 0-based and row-major.

    >>> column_names("mu", ()), column_names("beta", (2,)), column_names("L", (1, 2))
    (['mu'], ['beta[0]', 'beta[1]'], ['L[0,0]', 'L[0,1]'])
    """
    if not shape:
        return [name]
    return [f"{name}[{','.join(map(str, index))}]" for index in np.ndindex(*shape)]


def draws_table(draws: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The draws ``{name: [n, *shape]}`` as a table of ``n`` rows.

    >>> draws_table({"mu": np.zeros(2), "beta": np.arange(4.0).reshape(2, 2)})
        mu  beta[0]  beta[1]
    0  0.0      0.0      1.0
    1  0.0      2.0      3.0
    """
    columns: dict[str, np.ndarray] = {}
    for name, values in draws.items():
        names = column_names(name, values.shape[1:])
        flat = values.reshape(len(values), len(names))
        columns.update(zip(names, flat.T, strict=True))
    return pd.DataFrame(columns)
