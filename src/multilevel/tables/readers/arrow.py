"""Columnar files: parquet and feather (Arrow)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from multilevel.tables.readers.content import (
    Content,
    ReadOptions,
    check_unique,
    unreadable,
    wanted_columns,
)

_FAILURES = (
    pa.lib.ArrowException,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
)


def read_parquet(path: Path, options: ReadOptions) -> Content:
    """Read a parquet file; see `multilevel.read`."""
    try:
        names = list(pyarrow.parquet.read_schema(path).names)
    except _FAILURES as error:
        raise unreadable(path, "parquet file", error) from error
    check_unique(names, path)
    wanted = wanted_columns(options, names, path)
    try:
        # One file, not a data set: folders named like "a=1" must not become columns.
        return _content(pyarrow.parquet.ParquetFile(path).read(columns=wanted))
    except _FAILURES as error:
        raise unreadable(path, "parquet file", error) from error


def read_feather(path: Path, options: ReadOptions) -> Content:
    """Read a feather (Arrow) file, or an Arrow stream; see `multilevel.read`."""
    try:
        table = _arrow_table(path)
        names = list(table.column_names)  # damaged names fail here, not on reading
    except _FAILURES as error:
        raise unreadable(path, "feather (Arrow) file", error) from error
    check_unique(names, path)
    wanted = wanted_columns(options, names, path)
    try:
        return _content(table if wanted is None else table.select(wanted))
    except _FAILURES as error:
        raise unreadable(path, "feather (Arrow) file", error) from error


def _arrow_table(path: Path) -> Any:
    """Read a feather file, or what other programs save as .arrow: a stream of batches."""
    try:
        return pyarrow.feather.read_table(path)
    except pa.lib.ArrowInvalid:
        with pa.OSFile(str(path), "rb") as source:
            return pa.ipc.open_stream(source).read_all()


def _content(table: Any) -> Content:
    """Turn an Arrow table into a pandas frame with all its columns; a stored index is no data."""
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    stored = (table.schema.metadata or {}).get(b"pandas")
    index = json.loads(stored).get("index_columns", []) if stored else []
    unnamed = [one for one in index if isinstance(one, str) and one.startswith("__index_level_")]
    return Content(frame.drop(columns=[one for one in unnamed if one in frame.columns]))
