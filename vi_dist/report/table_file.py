"""Tables in checked files: Parquet whose metadata hold the checksum."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vi_dist.checked_files import CHECKSUM, DRAFT, EMPTY_MARK, check, reading, replace_by, seal_file


def write_table(path: Path, tables: Iterable[pa.Table], schema: pa.Schema, *, durable: bool = True) -> Path:
    """Write tables of one schema, one after the other, as one; `durable` as for `replace_file`."""
    draft = path.with_name(path.name + DRAFT)
    with pq.ParquetWriter(draft, schema) as writer:
        for table in tables:
            writer.write_table(table)
        writer.add_key_value_metadata({CHECKSUM: EMPTY_MARK})
    seal_file(draft, durable=durable)
    return replace_by(path, draft, durable=durable)


def read_table(path: Path, cure: str = "", **choice: Any) -> pa.Table:
    """What `write_table` wrote; `choice` goes to `pyarrow.parquet.read_table`.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFile: it is not what was written; `cure` says what to do.
    """
    check(path, cure)
    with reading(path, "Parquet", cure):
        return pq.read_table(path, **choice)


def read_frame(path: Path, cure: str = "", **choice: Any) -> pd.DataFrame:
    """As `read_table`, as a data frame; `choice` goes to `pandas.read_parquet`."""
    check(path, cure)
    with reading(path, "Parquet", cure):
        return pd.read_parquet(path, **choice)
