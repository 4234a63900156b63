"""Tables on disk in a form that Python and R read quickly and to the same bits.

A table is a folder with ``columns.json`` and one raw little-endian file a column: float64 for
measurements, int32 for ids. CSV would be slow at a million rows and Parquet needs a package that
not every R has.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[Any]


def write(folder: Path, columns: dict[str, Column]) -> None:
    """Write ``columns`` (equal lengths; integers become int32, the rest float64) to ``folder``."""
    partial = folder.with_name(folder.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    entries = []
    for name, values in columns.items():
        is_id = np.issubdtype(values.dtype, np.integer)
        values.astype("<i4" if is_id else "<f8").tofile(partial / f"{name}.bin")
        entries.append({"name": name, "type": "int32" if is_id else "float64"})
    n_rows = len(next(iter(columns.values())))
    (partial / "columns.json").write_text(json.dumps({"n_rows": n_rows, "columns": entries}))
    partial.rename(folder)


def read(folder: Path) -> dict[str, Column]:
    """Read what ``write`` wrote."""
    header = json.loads((folder / "columns.json").read_text())
    dtypes = {"int32": "<i4", "float64": "<f8"}
    return {
        entry["name"]: np.fromfile(folder / f"{entry['name']}.bin", dtype=dtypes[entry["type"]])
        for entry in header["columns"]
    }
