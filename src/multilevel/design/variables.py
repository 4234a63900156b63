"""Columns of a table as formula parts need them, and which rows have them all."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.errors import DesignError
from multilevel.tables.columns import kind_of
from multilevel.tables.levels import combine_codes, integer_codes
from multilevel.tables.table import Table

Values = NDArray[Any] | pd.Categorical
Positions = NDArray[np.intp]
_MAX_ROWS_NAMED = 5


class Source:
    """The columns of one table, each prepared once.

    Parameters
    ----------
    table : the data.
    levels : order of the categories of some variables, first is the reference.
    """

    def __init__(self, table: Table, levels: Mapping[str, Sequence[Any]] | None = None) -> None:
        self.table = table
        self.levels = dict(levels or {})
        self._values: dict[str, Values] = {}
        self._codes: dict[str, tuple[NDArray[np.int32], NDArray[Any]]] = {}

    @property
    def n_rows(self) -> int:
        """Rows of the table."""
        return self.table.n_rows

    def check(self, names: Sequence[str], purpose: str) -> None:
        """Raise a DesignError for the first name that is no column, with close matches."""
        for name in names:
            if name in self.table.columns:
                continue
            known = list(self.table.columns)
            close = difflib.get_close_matches(name, known, n=3) or [
                column for column in known if column.lower() == name.lower()
            ]
            remedy = f"did you mean {' or '.join(close)}?" if close else "check the spelling"
            shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
            raise DesignError(
                f"Every variable of the model must be a column of the data ({purpose}).",
                f"no column {name!r} among {shown}",
                remedy,
            )

    def values(self, name: str) -> Values:
        """All rows of a predictor: numbers and flags as an array, everything else as categories.

        Raises
        ------
        DesignError : a column of dates or of mixed things.
        """
        if name not in self._values:
            self._values[name] = self._prepare(name)
        return self._values[name]

    def codes(self, name: str) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """All rows of a grouping column as ``(codes, levels)``; missing is -1."""
        if name not in self._codes:
            self._codes[name] = self.table.codes(name)
        return self._codes[name]

    def group_codes(
        self, factors: Sequence[str], kept: Positions | None
    ) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """Codes of the factor ``a:b:...`` on the kept rows; levels that do not occur are dropped.

        Missing is -1 (only where ``kept`` includes rows without a group).
        """
        parts = [self._kept_codes(name, kept) for name in factors]
        return parts[0] if len(parts) == 1 else combine_codes(parts)

    def _kept_codes(
        self, name: str, kept: Positions | None
    ) -> tuple[NDArray[np.int32], NDArray[Any]]:
        codes, levels = self.codes(name)
        if kept is None:
            return codes, levels
        inside = codes[kept]
        known = inside >= 0
        if known.all():
            short, used = integer_codes(inside)
            return short, levels[used]
        short, used = integer_codes(inside[known])
        result = np.full(len(inside), -1, dtype=np.int32)
        result[known] = short
        return result, levels[used]

    def _prepare(self, name: str) -> Values:
        series = self.table.series(name)
        kind = kind_of(series)
        if kind in ("numeric", "boolean") and name not in self.levels:
            array = series.to_numpy()
            return array.astype(np.float64) if array.dtype == np.float16 else array
        if kind in ("date", "other"):
            raise DesignError(
                "A variable in a formula must hold numbers, text, categories or True/False.",
                f"{name!r} holds {'dates' if kind == 'date' else 'values of mixed types'}",
                "turn it into a number first (for a date: days or years since a start)",
            )
        if name in self.levels:
            return self._ordered(name, series)
        values = series.array
        return values if isinstance(values, pd.Categorical) else pd.Categorical(values)

    def _ordered(self, name: str, series: pd.Series[Any]) -> pd.Categorical:
        """Categories in the order that the caller asked for."""
        order = list(self.levels[name])
        lost = np.flatnonzero(~(series.isin(order) | series.isna()).to_numpy())
        if len(lost):
            raise DesignError(
                f"levels[{name!r}] must list every value that occurs.",
                f"{series.iloc[lost[0]]!r} in {row_words(lost)}",
                "add it to the list",
            )
        return pd.Categorical(series, categories=order)


def row_words(positions: NDArray[Any]) -> str:
    """Name rows in words: ``"rows 3, 8 and 2 more (rows are numbered from 0)"``."""
    named = [str(int(p)) for p in positions[:_MAX_ROWS_NAMED]]
    n_more = len(positions) - len(named)
    more = f" and {n_more} more" if n_more else ""
    return f"row{'s' if len(positions) > 1 else ''} {', '.join(named)}{more} (numbered from 0)"


def missing_mask(values: Values, name: str) -> NDArray[np.bool_] | None:
    """Return which rows are missing, or None if none is; one pass for complete numbers.

    Raises
    ------
    DesignError : infinite values.
    """
    if isinstance(values, pd.Categorical):
        mask = values.codes < 0
        return mask if mask.any() else None
    if values.dtype.kind != "f":
        return None
    with np.errstate(all="ignore"):
        total = values.sum()
    if np.isfinite(total):
        return None
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise DesignError(
            "Numbers must be finite.",
            f"{name!r} is infinite in {row_words(infinite)}",
            "correct these values, or set them to missing",
        )
    mask = np.isnan(values)
    return mask if mask.any() else None


def take(values: Values, kept: Positions | None) -> Values:
    """Return the kept rows; categories that no longer occur are dropped."""
    if isinstance(values, pd.Categorical):
        inside = values if kept is None else values.take(kept)
        return inside.remove_unused_categories()
    return values if kept is None else values[kept]


def complete_rows(
    source: Source, variables: Sequence[str], groups: Sequence[str]
) -> tuple[Positions | None, dict[str, int]]:
    """Find the rows that have every variable and every group.

    Returns
    -------
    kept : positions of complete rows; None if all rows are complete.
    missing : ``{name: rows in which it is missing}``.
    """
    missing: dict[str, int] = {}
    lost: NDArray[np.bool_] | None = None
    for name in variables:
        lost = _also(lost, missing_mask(source.values(name), name), name, missing)
    for name in groups:
        if name not in variables:
            codes, _ = source.codes(name)
            mask = codes < 0
            lost = _also(lost, mask if mask.any() else None, name, missing)
    return (None if lost is None else np.flatnonzero(~lost)), missing


def _also(
    lost: NDArray[np.bool_] | None,
    mask: NDArray[np.bool_] | None,
    name: str,
    missing: dict[str, int],
) -> NDArray[np.bool_] | None:
    if mask is None:
        return lost
    missing[name] = int(mask.sum())
    return mask if lost is None else lost | mask
