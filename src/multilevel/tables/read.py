"""One door for files: the suffix chooses the reader."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from multilevel.errors import TableError
from multilevel.tables.readers.arrow import read_feather, read_parquet
from multilevel.tables.readers.content import LABELS, USER_MISSING, Content, Labels, ReadOptions
from multilevel.tables.readers.content import UserMissing as UserMissing
from multilevel.tables.readers.excel import read_excel
from multilevel.tables.readers.labelled import read_labelled
from multilevel.tables.readers.text import read_text
from multilevel.tables.table import Table

_TEXT = ("encoding", "delimiter", "decimal", "na_values")
_SPSS = ("labels", "encoding", "user_missing")
_PROGRAM = ("labels", "encoding")
_EXCEL = ("sheet", "na_values")

# Suffix -> reader, and the options (besides columns) that mean something for it.
_FORMATS: dict[str, tuple[Callable[[Path, ReadOptions], Content], tuple[str, ...]]] = {
    ".csv": (read_text, _TEXT),
    ".tsv": (read_text, _TEXT),
    ".csv.gz": (read_text, _TEXT),
    ".tsv.gz": (read_text, _TEXT),
    ".parquet": (read_parquet, ()),
    ".feather": (read_feather, ()),
    ".arrow": (read_feather, ()),
    ".dta": (read_labelled, _PROGRAM),
    ".sav": (read_labelled, _SPSS),
    ".zsav": (read_labelled, _SPSS),
    ".por": (read_labelled, ("labels",)),
    ".sas7bdat": (read_labelled, _PROGRAM),
    ".xpt": (read_labelled, _PROGRAM),
    ".xlsx": (read_excel, _EXCEL),
    ".xls": (read_excel, _EXCEL),
}


def read(
    path: str | os.PathLike[str],
    *,
    columns: Sequence[str] | None = None,
    labels: Labels = "numeric",
    user_missing: UserMissing = "missing",
    encoding: str | None = None,
    delimiter: str | None = None,
    decimal: str = ".",
    na_values: Sequence[Any] = (),
    sheet: str | int | None = None,
) -> Table:
    """Read a data file; its suffix says what it is.

    Text (``.csv``, ``.tsv``, also ``.gz``), ``.parquet``, ``.feather`` and ``.arrow``, Stata
    (``.dta``), SPSS (``.sav``, ``.zsav``, ``.por``), SAS (``.sas7bdat``, ``.xpt``), Excel
    (``.xlsx``; ``.xls`` needs the package xlrd).

    Parameters
    ----------
    path : the file.
    columns : names of the columns to keep, in this order; default all.
    labels : ``"numeric"`` (default): a numeric variable with value labels (0 "Public",
        1 "Catholic") stays numeric, its labels are kept in ``table.value_labels``.
        ``"categories"``: it becomes a categorical of its labels, in the order of the values, if
        every value that occurs has a label of its own; else it stays, with a note.
        Stata, SPSS and SAS.
    user_missing : ``"missing"`` (default): values that SPSS declares missing (say -9 "refused")
        are missing, and a note counts them. ``"values"``: they are kept as numbers. SPSS ``.sav``
        and ``.zsav``; in Stata and SAS (``.a`` to ``.z``) they are always missing, and counted.
    encoding : of text; default UTF-8 for text files, what the file says for Stata, SPSS and SAS.
    delimiter : of text files; default tab for ``.tsv``, else comma, semicolon or tab, whichever
        occurs most in the header. A row shorter than the header ends in missing values.
    decimal : decimal mark of text files, ``"."`` or ``","``.
    na_values : further marks of missing values in text and Excel files, e.g. ``[-999]``. Always
        missing are empty cells, ``NA``, ``NaN``, ``null``, a lone ``.`` and the like.
    sheet : name of the Excel sheet, or its number from 1; default the first.

    Returns
    -------
    The `Table`, a pandas frame inside; ``table.notes`` tells what was set missing or renamed.

    Raises
    ------
    TableError : for a file that is missing, empty, damaged, of unknown suffix or in another
        encoding; for column names that repeat; for an option that means nothing for this format.

    Examples
    --------
    >>> import multilevel as mlm
    >>> mlm.read("school.sav", labels="categories")                             # doctest: +SKIP
    """
    file = _existing_file(path)
    suffix = _suffix(file)
    options = ReadOptions(
        columns=None if columns is None else _names(columns),
        labels=labels,
        user_missing=user_missing,
        encoding=encoding,
        delimiter=delimiter,
        decimal=decimal,
        na_values=(na_values,) if isinstance(na_values, str) else tuple(na_values),
        sheet=sheet,
    )
    reader, meaningful = _FORMATS[suffix]
    _check_options(options, meaningful, suffix)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        content = reader(file, options)
    told = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
    if len(content.frame) == 0:
        raise TableError(
            "The file must have at least one row of data.",
            f"{file} has {len(content.frame.columns)} columns and no rows",
            "check how the file was written",
        )
    return Table(
        content.frame,
        content.variable_labels,
        content.value_labels,
        source=file.name,
        notes=(*content.notes, *dict.fromkeys(told)),
    )


def _names(columns: Sequence[str]) -> tuple[str, ...]:
    """Column names asked for; one name may stand alone."""
    return (columns,) if isinstance(columns, str) else tuple(dict.fromkeys(columns))


def _existing_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file that is there and not empty."""
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise TableError(
            "The path must be text or a path.", f"{type(path).__name__}", "give a file name"
        )
    try:
        file = Path(path).expanduser()
        if file.is_dir():
            raise TableError("The path must name a file.", f"{file} is a folder", "name one file")
        if not file.exists():
            raise TableError(
                "The file must exist.",
                f"there is no {file} (working folder {Path.cwd()})",
                "check the name and the folder",
            )
        size = file.stat().st_size
    except (OSError, ValueError, RuntimeError) as error:
        raise TableError(
            "The path must name a file that can be read.", f"{path!r}: {error}", "check the path"
        ) from error
    if size == 0:
        raise TableError(
            "The file must have content.", f"{file} is empty (0 bytes)", "write the file again"
        )
    return file


def _suffix(file: Path) -> str:
    """Return the known suffix of a file name."""
    name = file.name.lower()
    for suffix in sorted(_FORMATS, key=len, reverse=True):
        if name.endswith(suffix):
            return suffix
    raise TableError(
        f"The file name must end in one of {', '.join(_FORMATS)}.",
        f"{file.name!r}",
        "save the data in one of these formats, or read it with pandas and pass the data frame",
    )


def _check_options(options: ReadOptions, meaningful: tuple[str, ...], suffix: str) -> None:
    """Raise for unknown values, and for options that this format does not have."""
    allowed: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("labels", LABELS),
        ("user_missing", USER_MISSING),
        ("decimal", (".", ",")),
    )
    for name, known in allowed:
        if getattr(options, name) not in known:
            raise TableError(
                f"{name} must be {' or '.join(map(repr, known))}.",
                f"{name}={getattr(options, name)!r}",
                f"write {name}={known[0]!r}",
            )
    delimiter = options.delimiter
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise TableError(
            "The delimiter must be one character.", f"delimiter={delimiter!r}", "delimiter=';'"
        )
    if delimiter is not None and delimiter == options.decimal:
        raise TableError(
            "The delimiter and the decimal mark must differ.", f"both {delimiter!r}", "change one"
        )
    for option in fields(options):
        given = getattr(options, option.name) != option.default
        if given and option.name not in ("columns", *meaningful):
            usable = ", ".join(("columns", *meaningful))
            raise TableError(
                f"Files that end in {suffix} have no option {option.name!r}.",
                f"{option.name}={getattr(options, option.name)!r}",
                f"leave it out; their options are {usable}",
            )
