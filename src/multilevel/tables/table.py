"""The frozen Table: one frame of any kind, with the labels of its variables and values."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any

import narwhals.stable.v1 as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.errors import TableError
from multilevel.tables.columns import Kind, kind_of, plain_array, plain_series
from multilevel.tables.levels import Codes, Levels
from multilevel.tables.levels import codes as codes
from multilevel.tables.levels import combine_codes as combine_codes

_MAX_SHOWN = 24
_N_EXAMPLES = 3


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """A data frame together with the labels of its variables and values.

    Every function of the package that takes data takes a `Table`; so one is only needed to keep
    labels. `multilevel.read` returns one. The rows are numbered ``0..n_rows-1``; a pandas index is
    not data and is ignored.

    A numeric variable with value labels (0 "Public", 1 "Catholic") **stays numeric**, because its
    slope is then the difference between the groups and its mean the share of ones; the labels are
    kept for reports. Ask for categories with ``read(path, labels="categories")``.

    Attributes
    ----------
    frame : the native frame: pandas or Polars data frame, or PyArrow table. Not copied.
    variable_labels : ``{column: label}`` for the columns that have one.
    value_labels : ``{column: {value: label}}`` for the columns that have them.
    source : where the data came from, e.g. a file name; ``""`` if unknown.
    notes : what the reader changed or found, one sentence each.

    Examples
    --------
    >>> import multilevel as mlm
    >>> hsb = mlm.load_hsb()
    >>> hsb.n_rows, hsb.label("ses")
    (7185, 'Socioeconomic status of the student (standardised composite)')
    """

    frame: Any
    variable_labels: Mapping[str, str] = field(default_factory=dict)
    value_labels: Mapping[str, Mapping[Any, str]] = field(default_factory=dict)
    source: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the column names once, so that every later look-up is safe."""
        _check_names([*map(_name_of, self._names())])

    def _names(self) -> Sequence[Any]:
        """Column names as the native frame gives them."""
        if hasattr(self.frame, "column_names"):
            return list(self.frame.column_names)
        return list(self.frame.columns)

    @cached_property
    def _narwhal(self) -> nw.DataFrame[Any]:
        """The frame behind one common interface."""
        return nw.from_native(self.frame, eager_only=True)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Column names, in the order of the table."""
        return tuple(self._names())

    @cached_property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self._narwhal.shape[0])

    def __len__(self) -> int:
        return self.n_rows

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def check(self, names: Sequence[str], purpose: str = "") -> None:
        """Raise a `TableError` that names the first of ``names`` that is not a column.

        ``purpose`` ends the sentence "... must be a column of the data", e.g. ``"as a group"``.
        """
        for name in names:
            if name in self.columns:
                continue
            close = difflib.get_close_matches(str(name), self.columns, n=3, cutoff=0.6)
            if not close:
                close = [one for one in self.columns if one.lower() == str(name).lower()]
            shown = ", ".join(self.columns[:20]) + (", ..." if len(self.columns) > 20 else "")
            raise TableError(
                f"{name!r} must be a column of the data{f' {purpose}' if purpose else ''}.",
                f"columns {shown}",
                f"did you mean {' or '.join(map(repr, close))}?" if close else "check the spelling",
            )

    def _raw(self, name: str) -> pd.Series[Any]:
        """One column as pandas gives it, without the index."""
        self.check([name])
        if isinstance(self.frame, pd.DataFrame):
            series: pd.Series[Any] = self.frame[name]
            return series
        column = self._narwhal[name]
        if column.dtype == nw.Categorical and self._narwhal.implementation.is_polars():
            # Polars numbers categories by first appearance: sorted, row order does not matter.
            values = pd.Categorical(column.cast(nw.String).to_pandas())
            return pd.Series(values)
        return column.to_pandas()

    def series(self, name: str) -> pd.Series[Any]:
        """One column as a plain pandas Series, index ``0..n_rows-1``.

        Numbers are NumPy numbers (missing: ``NaN``), flags ``bool``, text and categories stay.
        Numeric columns are not copied where the frame allows it.
        """
        return plain_series(self._raw(name)).rename(name)

    def column(self, name: str) -> NDArray[Any]:
        """One column as an (n_rows,) read-only array.

        Numbers and flags are float64 with ``NaN`` where missing; dates ``datetime64``; text,
        categories and anything else objects with ``None`` where missing. A missing column raises
        `TableError`.
        """
        return plain_array(self.series(name))

    def kind(self, name: str) -> Kind:
        """``"numeric"``, ``"boolean"``, ``"category"``, ``"text"``, ``"date"`` or ``"other"``."""
        return kind_of(self.series(name))

    def categories(self, name: str) -> tuple[Any, ...]:
        """The categories of a column in their order; ``()`` for any other kind of column."""
        dtype = self.series(name).dtype
        return tuple(dtype.categories) if isinstance(dtype, pd.CategoricalDtype) else ()

    def codes(self, name: str) -> tuple[Codes, Levels]:
        """One grouping column as ``(codes, levels)``; ``"a:b"`` combines two columns.

        See `multilevel.tables.levels.codes`. Missing ids have code -1.
        """
        if name not in self.columns and ":" in name:
            return combine_codes([self.codes(part.strip()) for part in name.split(":")])
        raw = self._raw(name)
        # Large integer ids with gaps would lose digits as floats.
        return codes(raw if pd.api.types.is_integer_dtype(raw.dtype) else self.series(name))

    def label(self, name: str) -> str:
        """The variable label of a column, ``""`` if it has none."""
        self.check([name])
        return self.variable_labels.get(name, "")

    def to_pandas(self, names: Sequence[str] | None = None, *, copy: bool = True) -> pd.DataFrame:
        """Return a pandas frame of the named columns (default: all), rows ``0..n_rows-1``.

        Columns are plain as in `series`. The frame owns its numbers; with ``copy=False`` numeric
        columns share memory with the table where they can, and the frame is to be read only.
        """
        wanted = self.columns if names is None else tuple(dict.fromkeys(names))
        self.check(wanted)
        index = pd.RangeIndex(self.n_rows)
        return pd.DataFrame({name: self.series(name) for name in wanted}, index=index, copy=copy)

    def _overview(self) -> list[tuple[str, str, str, str]]:
        """Name, kind, first values and label of the first columns."""
        head = Table(self._narwhal.head(_N_EXAMPLES).to_native())
        rows: list[tuple[str, str, str, str]] = []
        for name in self.columns[:_MAX_SHOWN]:
            shown = ", ".join(_short(value) for value in head.series(name).tolist())
            named = self.value_labels.get(name, {})
            label = self.variable_labels.get(name, "")
            if named:
                listed = ", ".join(f"{value} {text}" for value, text in list(named.items())[:4])
                more = ", ..." if len(named) > 4 else ""
                label = f"{label} ({listed}{more})".strip()
            rows.append((name, head.kind(name), shown, label))
        return rows

    def _heading(self) -> str:
        """Size and source in one line."""
        origin = f" from {self.source}" if self.source else ""
        return f"Table{origin}: {self.n_rows:,} rows, {len(self.columns)} columns"

    def _tail(self) -> list[str]:
        """What the overview leaves out, and the notes."""
        n_hidden = len(self.columns) - _MAX_SHOWN
        hidden = [f"... and {n_hidden} more columns"] if n_hidden > 0 else []
        return [*hidden, *(f"Note: {note}" for note in self.notes)]

    def __repr__(self) -> str:
        rows = self._overview()
        widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
        lines = [
            "  ".join([*(row[i].ljust(widths[i]) for i in range(3)), row[3]]).rstrip()
            for row in rows
        ]
        return "\n".join([self._heading(), *(f"  {line}" for line in [*lines, *self._tail()])])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{title}</th>" for title in ("column", "kind", "first values", "label"))
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._overview()
        )
        tail = "".join(f"<p>{escape(line)}</p>" for line in self._tail())
        return (
            f"<p>{escape(self._heading())}</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{tail}"
        )


def as_table(data: Any) -> Table:
    """Return ``data`` as a `Table`; a `Table` is returned as it is.

    Parameters
    ----------
    data : a `Table`, a pandas or Polars data frame (a lazy frame is collected), a PyArrow table,
        any other frame that narwhals knows, or a dict of one-dimensional arrays or lists of equal
        length. Frames are not copied.

    Raises
    ------
    TableError : for anything else, unequal lengths, and column names that are not text, empty or
        repeated.
    """
    if isinstance(data, Table):
        return data
    if isinstance(data, Mapping):
        return Table(_frame_of_dict(data))
    if isinstance(data, pd.DataFrame):
        return Table(data)
    if hasattr(data, "column_names"):  # narwhals refuses repeated names without saying what to do
        _check_names([_name_of(name) for name in data.column_names])
    try:
        common = nw.from_native(data)
    except TypeError as error:
        raise TableError(
            "Data must be a table: pandas, Polars, PyArrow, a dict of arrays, or a Table.",
            f"{type(data).__name__}",
            "use multilevel.read(path) for a file, pandas.DataFrame(...) for anything else",
        ) from error
    if isinstance(common, nw.LazyFrame):
        common = common.collect()
    if not isinstance(common, nw.DataFrame):
        raise TableError(
            "Data must be a table with columns.", type(data).__name__, "give the whole data frame"
        )
    return Table(common.to_native())


def _frame_of_dict(data: Mapping[Any, Any]) -> pd.DataFrame:
    """Return a pandas frame of named columns, one-dimensional and equally long."""
    _check_names([_name_of(name) for name in data])
    lengths: dict[str, int] = {}
    for name, values in data.items():
        n_dimensions = np.ndim(values) if hasattr(values, "shape") else None
        if (
            n_dimensions not in (None, 1)
            or isinstance(values, str)
            or not hasattr(values, "__len__")
        ):
            found = f"shape {np.shape(values)}" if n_dimensions else f"{values!r:.60}"
            raise TableError(
                "Every entry of a dict of columns must be a one-dimensional array or list.",
                f"{name!r} is {found}",
                "give one value for every row",
            )
        lengths[name] = len(values)
    if len(set(lengths.values())) > 1:
        raise TableError(
            "All columns must have the same number of rows.",
            ", ".join(f"{name}: {n}" for name, n in list(lengths.items())[:8]),
            "give one value for every row, None or NaN where it is missing",
        )
    n_rows = next(iter(lengths.values()), 0)
    columns = {name: pd.Series(_column_values(data[name])) for name in data}
    return pd.DataFrame(columns, index=pd.RangeIndex(n_rows), copy=False)


def _column_values(values: Any) -> Any:
    """Values of one dict entry without their index."""
    if isinstance(values, pd.Series):
        return values.array
    if isinstance(values, pd.api.extensions.ExtensionArray | np.ndarray):
        return values
    if hasattr(values, "to_pandas"):
        return values.to_pandas().array
    if hasattr(values, "__array__"):
        return np.asarray(values)
    return list(values) if not isinstance(values, list) else values


def _name_of(name: Any) -> str:
    """Check that one column name is text."""
    if not isinstance(name, str):
        raise TableError(
            "Column names must be text.",
            f"column {name!r} of type {type(name).__name__}",
            "rename the columns, e.g. frame.columns = [...] with names in quotes",
        )
    return name


def _check_names(names: Sequence[str]) -> None:
    """Check that column names are there and unique."""
    seen: set[str] = set()
    for place, name in enumerate(names, start=1):
        if not name.strip():
            raise TableError(
                "Every column must have a name.", f"column {place} has none", "name the column"
            )
        if name in seen:
            raise TableError(
                "Column names must be unique.",
                f"{name!r} occurs more than once",
                "rename or drop one of the columns",
            )
        seen.add(name)


def _short(value: Any) -> str:
    """One cell for the overview."""
    if value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NaT:
        return "."
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 14 else f"{text[:13]}…"
