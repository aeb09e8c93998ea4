"""Write the records of names given to babies in the United States, 1880 to 2010, to Parquet, standardised.

python prepare.py babynames/                     # a folder of yob1880.txt to yob2010.txt
python prepare.py us_babynames_1880_2010.npz     # or an archive of arrays
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PARTS = 16
"""Row groups of the file: what a shard reads at once."""


def prepared(raw: pd.DataFrame) -> pd.DataFrame:
    """One row for every record, in their order; `raw` has the columns name, female, births and year."""
    columns: dict[str, Any] = {
        "z_year": raw["year"].astype(np.float64),
        "z_log_births": np.log(raw["births"].astype(np.float64)),
        "z_length": raw["name"].str.len().astype(np.float64),
    }
    table = pd.DataFrame({name: (x - x.mean()) / x.std(ddof=0) for name, x in columns.items()})
    table["letter"] = (raw["name"].str[-1].str.lower().map(ord) - ord("a")).astype(np.int8)
    table["female"] = raw["female"].astype(np.int8)
    return table


def read(path: Path) -> pd.DataFrame:
    """The raw records, from a folder of text files (name, sex, births; a year each) or from an archive."""
    if path.is_dir():
        files = sorted(path.glob("yob????.txt"))
        if not files:
            raise SystemExit(f"{path} holds no yob????.txt")
        years = [pd.read_csv(file, names=["name", "sex", "births"], keep_default_na=False) for file in files]
        for file, frame in zip(files, years, strict=True):
            frame["year"] = int(file.stem[3:])
        raw = pd.concat(years, ignore_index=True)
        raw["female"] = (raw["sex"] == "F").astype(np.int8)
        return raw[["name", "female", "births", "year"]]
    with np.load(path) as arrays:
        names = arrays["names"].astype(str)[arrays["name_id"]]
        return pd.DataFrame({"name": names} | {key: arrays[key] for key in ("female", "births", "year")})


def main() -> None:
    """Read, prepare, write ``babynames.parquet`` beside this file or where ``--output`` says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of text files, or npz file")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("babynames.parquet"))
    arguments = parser.parse_args()
    table = prepared(read(arguments.source))
    rows = max(1, -(-len(table) // PARTS))
    table.to_parquet(arguments.output, row_group_size=rows, compression="zstd")
    print(f"{len(table)} records written to {arguments.output}")


if __name__ == "__main__":
    main()
