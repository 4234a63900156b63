"""One column of any table as one plain pandas Series, and as one plain NumPy array."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Kind = Literal["numeric", "boolean", "category", "text", "date", "other"]
KINDS: tuple[str, ...] = get_args(Kind)

_NUMBERS = {"integer", "floating", "mixed-integer-float", "decimal"}
_DATES = {"datetime64", "datetime", "date"}


def plain_series(series: pd.Series[Any]) -> pd.Series[Any]:
    """Bring a column to a dtype that formulas and arithmetic understand.

    Numbers become NumPy integers or floats (missing: ``NaN``), flags ``bool`` (a categorical
    ``False, True`` where some are missing), dates ``datetime64``; text and categories stay. An
    ``object`` column is looked at value by value. Numeric NumPy columns are not copied. The index
    is replaced by ``0..n-1``.
    """
    dtype = series.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "iufcM":
        return pd.Series(series.to_numpy(), copy=False)
    if isinstance(dtype, np.dtype) and dtype.kind == "b":
        return pd.Series(series.to_numpy(), copy=False)
    values = series.array
    if isinstance(dtype, pd.CategoricalDtype):
        return pd.Series(values, copy=False)
    if pd.api.types.is_bool_dtype(dtype):
        return _flags(series)
    if pd.api.types.is_numeric_dtype(dtype):
        return pd.Series(_numbers(series), copy=False)
    if isinstance(dtype, pd.DatetimeTZDtype):
        return pd.Series(series.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(), copy=False)
    if isinstance(dtype, pd.ArrowDtype) or pd.api.types.is_object_dtype(dtype):
        return _inspected(pd.Series(series.to_numpy(dtype=object), dtype=object))
    return pd.Series(values, copy=False)


def kind_of(series: pd.Series[Any]) -> Kind:
    """Name the kind of a column that went through `plain_series`."""
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return "category"
    if isinstance(dtype, np.dtype) and dtype.kind in "iuf":
        return "numeric"
    if isinstance(dtype, np.dtype) and dtype.kind == "b":
        return "boolean"
    if isinstance(dtype, np.dtype) and dtype.kind == "M":
        return "date"
    if isinstance(dtype, pd.StringDtype):
        return "text"
    is_text = pd.api.types.infer_dtype(series, skipna=True) in {"string", "empty"}
    return "text" if is_text else "other"


def plain_array(series: pd.Series[Any]) -> NDArray[Any]:
    """Return the (n,) values of a plain column, read-only.

    Numbers and flags: float64 with ``NaN`` where missing. Dates: ``datetime64``. Everything else:
    objects, ``None`` where missing.
    """
    kind = kind_of(series)
    if kind in ("numeric", "boolean"):
        values: NDArray[Any] = series.to_numpy().astype(np.float64, copy=False)
    elif kind == "date":
        values = series.to_numpy()
    else:
        values = series.to_numpy(dtype=object)
        is_missing = series.isna().to_numpy()
        if is_missing.any():
            values = values.copy()
            values[is_missing] = None
    values = values.view()
    values.flags.writeable = False
    return values


def _numbers(series: pd.Series[Any]) -> NDArray[Any]:
    """Nullable or Arrow numbers as NumPy numbers."""
    if series.isna().any():
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    values = series.to_numpy()
    return values if values.dtype.kind in "iuf" else values.astype(np.float64)


def _flags(series: pd.Series[Any]) -> pd.Series[Any]:
    """Nullable flags: ``bool`` if complete, else a categorical."""
    is_missing = series.isna().to_numpy()
    if not is_missing.any():
        return pd.Series(series.to_numpy(dtype=bool), copy=False)
    position = np.full(len(series), -1, dtype=np.int8)
    position[~is_missing] = series[~is_missing].to_numpy(dtype=bool)
    flags = pd.CategoricalDtype([False, True])
    return pd.Series(pd.Categorical.from_codes(position, dtype=flags))


def _inspected(series: pd.Series[Any]) -> pd.Series[Any]:
    """An object column, by what its values are."""
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind == "integer" and not series.isna().any():
        return pd.Series(pd.to_numeric(series).to_numpy())
    if kind in _NUMBERS:
        return pd.Series(series.where(series.notna(), np.nan).to_numpy(dtype=np.float64))
    if kind == "empty":
        return pd.Series(np.full(len(series), np.nan))
    if kind == "boolean":
        return _flags(series)
    if kind in _DATES:
        return pd.Series(pd.to_datetime(series, utc=True).dt.tz_localize(None).to_numpy())
    if kind == "string":
        return series.where(series.notna(), None)
    return series
