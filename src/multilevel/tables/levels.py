"""Grouping columns as small integers: one code per row, one label per level.

A missing group is code -1. Levels are sorted, so the codes of a row do not depend on the order of
the rows; only the order of an ordered categorical is kept instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.errors import TableError

Codes = NDArray[np.int32]
Levels = NDArray[Any]

# Up to this many slots per row a lookup table beats hashing.
_SLOTS_PER_ROW = 4
_SLOTS_FREE = 1_000_000


def codes(values: Any) -> tuple[Codes, Levels]:
    """Number the levels of a grouping column.

    Parameters
    ----------
    values : (n,) array, pandas Series, Categorical or list of ids: integers, text, booleans, dates,
        categories. Missing entries (``None``, ``NaN``, ``NaT``, ``NA``) belong to no level.

    Returns
    -------
    codes : (n,) int32, ``0..J-1``, and -1 where the id is missing.
    levels : (J,) the ids that occur, sorted (an ordered categorical keeps its order). Floats that
        are all whole numbers come back as integers, because a missing id turns integers to floats
        in most programs.

    Raises
    ------
    TableError : if the values are not one-dimensional or cannot serve as ids (lists, say).
    """
    if isinstance(values, pd.Series | pd.Index):
        values = values.array
    if isinstance(values, pd.Categorical):
        return _categorical_codes(values)
    if not isinstance(values, pd.api.extensions.ExtensionArray):
        values = _as_array(values)
    if isinstance(values, pd.arrays.NumpyExtensionArray):
        values = values.to_numpy()
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise TableError(
                "Ids must be one column.", f"shape {values.shape}", "give one id for every row"
            )
        if values.dtype.kind == "b":
            found, levels = integer_codes(values.astype(np.int8))
            return found, levels.astype(bool)
        if values.dtype.kind in "iu" and values.dtype != np.uint64:
            return integer_codes(values)
        if values.dtype.kind == "f":
            return _float_codes(values)
    return _hashed_codes(values)


def combine_codes(parts: Sequence[tuple[Codes, Levels]]) -> tuple[Codes, Levels]:
    """Combine grouping columns into one: the factor ``a:b``, for two or more columns.

    Parameters
    ----------
    parts : one ``(codes, levels)`` per column, each from `codes`, all of the same length n.

    Returns
    -------
    codes : (n,) int32; only combinations that occur get a code, ordered by the first column's
        levels, then the second's. -1 where any part is missing.
    levels : (J,) text labels, the parts' labels joined by ``":"``.

    Raises
    ------
    TableError : if two different combinations would get the same label.
    """
    if not parts:
        raise TableError("A combined factor needs columns.", "none", "name at least one column")
    found = parts[0][0]
    labels = labels_of(parts[0][1])
    for more, more_levels in parts[1:]:
        n_more = max(len(more_levels), 1)
        missing = (found < 0) | (more < 0)
        key = found.astype(np.int64) * n_more + more
        if missing.any():
            cell, keys = integer_codes(key[~missing])
            found = np.full(len(key), -1, dtype=np.int32)
            found[~missing] = cell
        else:
            found, keys = integer_codes(key)
        more_labels = labels_of(more_levels)
        labels = np.array(
            [
                f"{labels[one]}:{more_labels[two]}"
                for one, two in zip(keys // n_more, keys % n_more, strict=True)
            ],
            dtype=object,
        )
    if len(parts) > 1 and len(set(labels)) < len(labels):
        names, counts = np.unique(labels.astype(str), return_counts=True)
        raise TableError(
            "Every combination of levels must have a label of its own.",
            f"several combinations are called {names[counts > 1][0]!r}",
            "remove ':' from the ids",
        )
    return found, labels


def labels_of(levels: Levels) -> Levels:
    """Return (J,) levels as text labels."""
    return np.array([str(level) for level in levels.tolist()], dtype=object)


def integer_codes(values: NDArray[Any]) -> tuple[Codes, Levels]:
    """Number the distinct integers of an (n,) array; none may be missing."""
    if len(values) == 0:
        return np.zeros(0, dtype=np.int32), values.astype(np.int64)
    low, high = int(values.min()), int(values.max())
    n_slots = high - low + 1
    if n_slots > max(_SLOTS_PER_ROW * len(values), _SLOTS_FREE):
        return _hashed_codes(values)
    slot = values.astype(np.int64) - low if low else values.astype(np.int64, copy=False)
    is_used = np.zeros(n_slots, dtype=bool)
    is_used[slot] = True
    used = np.flatnonzero(is_used)
    rank = np.zeros(n_slots, dtype=np.int32)
    rank[used] = np.arange(len(used), dtype=np.int32)
    return rank[slot], used + low


def _as_array(values: Any) -> Any:
    """Return a NumPy or pandas array of the values, text and missing entries kept apart."""
    if isinstance(values, np.ndarray):
        return values.astype(object) if values.dtype.kind in "US" else values
    try:
        return pd.Series(values, dtype=None).array
    except (TypeError, ValueError) as error:
        raise TableError(
            "Ids must be one column of values.", f"{type(values).__name__}: {error}", "give a list"
        ) from error


def _float_codes(values: NDArray[Any]) -> tuple[Codes, Levels]:
    """Number floats: as integers where all are whole, NaN missing."""
    known = ~np.isnan(values)
    inside = values[known]
    is_whole = bool(np.all(np.abs(inside) < 2**53)) and bool(np.all(inside == np.floor(inside)))
    found, levels = integer_codes(inside.astype(np.int64)) if is_whole else _hashed_codes(inside)
    if known.all():
        return found, levels
    result = np.full(len(values), -1, dtype=np.int32)
    result[known] = found
    return result, levels


def _categorical_codes(values: pd.Categorical) -> tuple[Codes, Levels]:
    """Number the categories that occur, in their order if ordered, else sorted."""
    categories = values.categories.to_numpy()
    known = values.codes >= 0
    used = np.flatnonzero(np.bincount(values.codes[known], minlength=len(categories)))
    if not values.ordered:
        used = used[_sort_order(categories[used])]
    rank = np.full(len(categories) + 1, -1, dtype=np.int32)  # the last slot serves code -1
    rank[used] = np.arange(len(used), dtype=np.int32)
    return rank[values.codes], _plain(categories[used])


def _hashed_codes(values: Any) -> tuple[Codes, Levels]:
    """Number values of any kind by hashing, then sort the levels."""
    try:
        found, unique = pd.factorize(values, use_na_sentinel=True)
    except TypeError as error:
        raise TableError(
            "Ids must be numbers, text, dates or categories.",
            str(error),
            "turn the column into text first",
        ) from error
    levels = np.asarray(unique)
    order = _sort_order(levels)
    rank = np.full(len(levels) + 1, -1, dtype=np.int32)
    rank[order] = np.arange(len(levels), dtype=np.int32)
    return rank[found], _plain(levels[order])


def _sort_order(levels: Levels) -> NDArray[np.intp]:
    """Positions that sort the levels; mixed types are sorted by type, then by text."""
    if levels.dtype.kind != "O":
        return np.argsort(levels, kind="stable")
    listed = levels.tolist()
    try:
        order = sorted(range(len(listed)), key=listed.__getitem__)
    except TypeError:
        order = sorted(range(len(listed)), key=lambda i: (type(listed[i]).__name__, str(listed[i])))
    return np.array(order, dtype=np.intp)


def _plain(levels: Levels) -> Levels:
    """Text as an object array; everything else as it is."""
    return levels.astype(object) if levels.dtype.kind in "USTO" else levels
