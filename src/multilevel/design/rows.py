"""Which rows of a table are analysed, and what each of them weighs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.design.variables import Positions, Source, complete_rows, row_words
from multilevel.errors import DesignError

Array = NDArray[np.float64]


def read_weights(
    weights: str | Sequence[float] | NDArray[Any] | None, source: Source
) -> tuple[Array | None, NDArray[np.bool_] | None]:
    """Precision weights of all rows, and which are missing (None if none is)."""
    if weights is None:
        return None, None
    if isinstance(weights, str):
        source.check([weights], "weights")
        found = source.values(weights)
    else:
        found = np.asarray(weights)
    where = f"column {weights!r}" if isinstance(weights, str) else "weights"
    if isinstance(found, pd.Categorical) or found.dtype.kind not in "iuf":
        raise DesignError("Weights must be numbers.", where, "give positive numbers")
    if found.shape != (source.n_rows,):
        raise DesignError(
            "There must be one weight for each row of the table.",
            f"shape {found.shape} for {source.n_rows} rows",
            "give the weights as a column of the table",
        )
    values = found.astype(np.float64, copy=False)
    bad = np.flatnonzero(~((values > 0.0) & np.isfinite(values)) & ~np.isnan(values))
    if len(bad):
        raise DesignError(
            "Precision weights must be positive and finite.",
            f"{where}: {values[bad[0]]:g} in {row_words(bad)}",
            "leave rows of weight 0 out of the table",
        )
    lost = np.isnan(values)
    return values, (lost if lost.any() else None)


def analysed_rows(
    source: Source,
    variables: Sequence[str],
    groups: Sequence[str],
    lost: Mapping[str, NDArray[np.bool_]],
) -> tuple[Positions | None, dict[str, int]]:
    """Positions of the complete rows (None: all), and what each variable cost.

    ``lost`` names rows that are left out for other reasons (weights, memberships).
    """
    kept, missing = complete_rows(source, variables, groups)
    for name, mask in lost.items():
        missing[name] = int(mask.sum())
        whole = np.ones(source.n_rows, dtype=bool) if kept is None else _flags(kept, source.n_rows)
        kept = np.flatnonzero(whole & ~mask)
    check_rows(source.n_rows if kept is None else len(kept), source.n_rows, missing)
    return kept, missing


def _flags(kept: Positions, n: int) -> NDArray[np.bool_]:
    """Positions as a mask."""
    flags = np.zeros(n, dtype=bool)
    flags[kept] = True
    return flags


def check_rows(n: int, n_table: int, missing: Mapping[str, int]) -> None:
    """Refuse a table without analysable rows."""
    if n:
        return
    counts = ", ".join(f"{name} in {count}" for name, count in missing.items())
    raise DesignError(
        "At least one row must have every variable of the model.",
        f"none of {n_table} rows has" + (f"; missing: {counts}" if counts else ""),
        "leave out the variables that are missing most",
    )
