"""Files of statistical programs, with labels: Stata, SPSS and SAS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyreadstat

from multilevel.errors import TableError
from multilevel.tables.columns import plain_series
from multilevel.tables.readers.content import (
    Content,
    ReadOptions,
    check_unique,
    unreadable,
    wanted_columns,
)

ValueLabels = dict[str, dict[Any, str]]

_READERS: dict[str, tuple[str, Callable[..., Any]]] = {
    ".dta": ("Stata file", pyreadstat.read_dta),
    ".sav": ("SPSS file", pyreadstat.read_sav),
    ".zsav": ("SPSS file", pyreadstat.read_sav),
    ".por": ("SPSS portable file", pyreadstat.read_por),
    ".sas7bdat": ("SAS file", pyreadstat.read_sas7bdat),
    ".xpt": ("SAS transport file", pyreadstat.read_xport),
}
_WITH_RANGES = (".sav", ".zsav")  # user-missing codes are declared as ranges of valid numbers
_WITH_LETTERS = (".dta", ".sas7bdat")  # user-missing codes are letters (.a, .b, ...)
# A cell takes a byte at least, unless the whole file is compressed; bounds on the ratio of that.
_CELLS_PER_BYTE = {".zsav": 2000, ".sas7bdat": 1000}
_FAILURES = (
    pyreadstat.ReadstatError,
    pyreadstat.PyreadstatError,
    ValueError,
    OverflowError,
    OSError,
    LookupError,
    TypeError,
    MemoryError,
)


def read_labelled(path: Path, options: ReadOptions) -> Content:
    """Read a Stata, SPSS or SAS file with its labels; see `multilevel.read`."""
    suffix = path.suffix.lower()
    what, reader = _READERS[suffix]
    asked: dict[str, Any] = {"dates_as_pandas_datetime": True}
    if options.encoding is not None:
        asked["encoding"] = options.encoding
    try:
        head = reader(str(path), metadataonly=True, **asked)[1]
    except _FAILURES as error:
        raise unreadable(path, what, error) from error
    names = [*head.column_names]
    _check_size(path, what, head.number_rows, len(names))
    check_unique(names, path)
    wanted = wanted_columns(options, names, path)
    if wanted is not None:
        asked["usecols"] = wanted
    notes: list[str] = []
    try:
        if suffix in (*_WITH_RANGES, *_WITH_LETTERS):
            frame, meta = reader(str(path), user_missing=True, **asked)
            labels = _value_labels(meta)
            if suffix in _WITH_LETTERS and meta.missing_user_values:
                notes += _lettered(frame, meta.missing_user_values, labels)
                frame, meta = reader(str(path), **asked)
                frame = frame.assign(**{one: plain_series(frame[one]) for one in frame.columns})
        else:
            frame, meta = reader(str(path), **asked)
            labels = _value_labels(meta)
    except _FAILURES as error:
        raise unreadable(path, what, error) from error
    if wanted is not None:
        frame = frame[wanted]
    if options.user_missing == "missing" and suffix in _WITH_RANGES:
        frame, more = _without_user_missing(frame, meta.missing_ranges or {}, labels)
        notes += more
    frame = _without_blank_text(frame)
    labels = {name: _numeric_keys(frame, name, known) for name, known in labels.items()}
    if options.labels == "categories":
        frame, more = _with_categories(frame, labels)
        notes += more
    texts = {
        name: text.strip()
        for name, text in (meta.column_names_to_labels or {}).items()
        if text and text.strip() and name in frame.columns
    }
    present = {name: known for name, known in labels.items() if known and name in frame.columns}
    return Content(frame, texts, present, tuple(notes))


def _check_size(path: Path, what: str, n_rows: int | None, n_columns: int) -> None:
    """Raise where a damaged header tells of more cells than the file can hold.

    The reader would ask for their memory before it looks at the first row.
    """
    most = path.stat().st_size * _CELLS_PER_BYTE.get(path.suffix.lower(), 1)
    if n_rows is not None and n_rows * n_columns > most:
        raise TableError(
            f"The file must be a readable {what}.",
            f"{path}: its header tells of {n_rows} rows of {n_columns} columns, "
            f"more than {path.stat().st_size} bytes can hold",
            "the file is damaged; get it again from its source",
        )


def _value_labels(meta: Any) -> ValueLabels:
    """Value labels by column; whole numbers as integers."""
    return {
        name: {_tidy(value): text for value, text in known.items()}
        for name, known in (meta.variable_value_labels or {}).items()
    }


def _tidy(value: Any) -> Any:
    """Return 1 for 1.0, everything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _numeric_keys(frame: pd.DataFrame, name: str, known: Mapping[Any, str]) -> dict[Any, str]:
    """Drop the labels of lettered missing values from numeric columns."""
    if name not in frame.columns or not pd.api.types.is_numeric_dtype(frame[name].dtype):
        return dict(known)
    return {value: text for value, text in known.items() if not isinstance(value, str)}


def _told(name: str, counts: Mapping[Any, int], known: Mapping[Any, str]) -> str:
    """One sentence on the user-missing values of a column."""
    parts = [
        f"{value}{f' ({known[value]!r})' if value in known else ''}: {count}"
        for value, count in counts.items()
    ]
    return f"{name}: user-missing values set to missing, {', '.join(parts)}"


def _lettered(frame: pd.DataFrame, missing: Mapping[str, Any], labels: ValueLabels) -> list[str]:
    """Count the lettered missing values (.a to .z) of Stata and SAS."""
    notes = []
    for name in missing:
        if name not in frame.columns:
            continue
        letters = frame[name].map(lambda value: value if isinstance(value, str) else None)
        counts = letters.dropna().value_counts().sort_index()
        known = {f".{value}": text for value, text in labels.get(name, {}).items()}
        if len(counts):
            told = {f".{letter}": int(count) for letter, count in counts.items()}
            notes.append(_told(name, told, known))
    return notes


def _without_user_missing(
    frame: pd.DataFrame, ranges: Mapping[str, Any], labels: ValueLabels
) -> tuple[pd.DataFrame, list[str]]:
    """Set the declared missing codes of SPSS to missing; their labels are no longer needed."""
    replaced: dict[str, pd.Series[Any]] = {}
    notes: list[str] = []
    for name, declared in ranges.items():
        if name not in frame.columns:
            continue
        column = frame[name]
        is_missing = np.zeros(len(column), dtype=bool)
        is_text = not pd.api.types.is_numeric_dtype(column.dtype)
        for one in declared:
            if is_text and isinstance(one["lo"], str):
                is_missing |= (
                    column.astype(object).map(str.rstrip).eq(one["lo"].rstrip()).to_numpy()
                )
            elif not is_text:
                is_missing |= ((column >= one["lo"]) & (column <= one["hi"])).to_numpy()
        known = labels.get(name, {})
        if is_missing.any():
            counts = column[is_missing].value_counts().sort_index()
            told = {_tidy(value): int(count) for value, count in counts.items()}
            notes.append(_told(name, told, known))
            replaced[name] = column.mask(is_missing)
        labels[name] = {
            value: text for value, text in known.items() if not _is_declared(value, declared)
        }
    return frame.assign(**replaced), notes


def _is_declared(value: Any, declared: Any) -> bool:
    """Return True where a value lies in one of the declared missing ranges."""
    return any(
        one["lo"] <= value <= one["hi"]
        for one in declared
        if isinstance(one["lo"], str) == isinstance(value, str)
    )


def _without_blank_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Blank text is how these programs write missing text."""
    replaced: dict[str, pd.Series[Any]] = {}
    for name in frame.columns:
        column = frame[name]
        if pd.api.types.is_string_dtype(column.dtype):
            is_blank = column.astype(object).map(
                lambda one: isinstance(one, str) and not one.strip()
            )
            if is_blank.any():
                replaced[name] = column.mask(is_blank.astype(bool))
    return frame.assign(**replaced)


def _is_blank(cell: Any) -> bool:
    """Return True for text without a character."""
    return isinstance(cell, str) and not cell.strip()


def _with_categories(frame: pd.DataFrame, labels: ValueLabels) -> tuple[pd.DataFrame, list[str]]:
    """Turn columns whose every value has a label of its own into categories, in value order."""
    replaced: dict[str, pd.Series[Any]] = {}
    notes: list[str] = []
    for name, known in labels.items():
        if name not in frame.columns or not known:
            continue
        column = frame[name]
        used = sorted(_tidy(value) for value in column.dropna().unique().tolist())
        bare = [value for value in used if value not in known]
        texts = [known[value] for value in used if value in known]
        if bare or len(set(texts)) < len(texts):
            why = f"{bare[0]!r} has no label" if bare else "two values share a label"
            notes.append(f"{name}: stays as it is, {why}")
            continue
        position = column.map({value: i for i, value in enumerate(used)}).fillna(-1).astype(int)
        coded = pd.Categorical.from_codes(position.to_numpy(), dtype=pd.CategoricalDtype(texts))
        replaced[name] = pd.Series(coded, index=frame.index)
    return frame.assign(**replaced), notes
