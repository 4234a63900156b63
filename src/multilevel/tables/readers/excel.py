"""Excel workbooks."""

from __future__ import annotations

import sys
import zipfile
import zlib
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import ParseError

import pandas as pd
from openpyxl.utils.exceptions import InvalidFileException

from multilevel.errors import TableError
from multilevel.tables.readers.content import (
    Content,
    ReadOptions,
    header_names,
    unreadable,
    wanted_columns,
)

# What a damaged workbook makes the parsers raise: they look up parts that are not there.
_FAILURES = (
    zipfile.BadZipFile,
    InvalidFileException,
    ParseError,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    NotImplementedError,
    OverflowError,
    MemoryError,
)


def read_excel(path: Path, options: ReadOptions) -> Content:
    """Read one sheet of a workbook; see `multilevel.read`."""
    engine: Literal["xlrd", "openpyxl"] = "xlrd" if path.suffix.lower() == ".xls" else "openpyxl"
    try:
        book = pd.ExcelFile(path, engine=engine)
    except ImportError as error:
        raise TableError(
            "Old Excel files (.xls) need the package xlrd.",
            str(error),
            "save the sheet as .xlsx or .csv, or install xlrd (pip install xlrd)",
        ) from error
    except _xlrd_failures(engine) as error:
        raise unreadable(path, "Excel workbook", error) from error
    with book:
        sheet = _sheet(book, options.sheet, path)
        try:
            header = book.parse(sheet, header=None, nrows=1)
            raw = header.iloc[0].tolist() if len(header) else []
            names, notes = header_names(raw, path)
            # pandas counts "NA" and the like as missing; a lone point is Stata's and SAS's mark.
            frame = book.parse(
                sheet, header=0, names=names or None, na_values=[".", *map(str, options.na_values)]
            )
        except _FAILURES as error:
            raise unreadable(path, "Excel sheet", error) from error
        n_sheets = len(book.sheet_names)
    if not names:
        raise TableError(
            "The sheet must have a header and rows.",
            f"sheet {sheet!r} of {path} is empty",
            "name another sheet, e.g. sheet='Data'",
        )
    made_up = [name for name in names if name.startswith("unnamed_") and frame[name].isna().all()]
    kept = [note for note in notes if not any(f"{name!r}" in note for name in made_up)]
    if n_sheets > 1 and options.sheet is None:
        kept.append(f"read the first of {n_sheets} sheets, {sheet!r}; choose with sheet=")
    wanted = wanted_columns(options, names, path)
    return Content(frame.drop(columns=made_up) if wanted is None else frame[wanted], notes=(*kept,))


def _xlrd_failures(engine: str) -> tuple[type[BaseException], ...]:
    """Failures to expect on opening; xlrd, where it is installed, has an error of its own."""
    if engine == "openpyxl":
        return _FAILURES
    # Optional, so not imported above; pandas has just imported it, or it is not there.
    module = sys.modules.get("xlrd")
    return _FAILURES if module is None else (*_FAILURES, module.XLRDError)


def _sheet(book: pd.ExcelFile, asked: str | int | None, path: Path) -> str:
    """Return the name of the sheet to read."""
    names = [str(name) for name in book.sheet_names]
    if not names:
        raise TableError("The workbook must have a sheet.", f"{path} has none", "save it again")
    if asked is None:
        return names[0]
    if isinstance(asked, int) and 1 <= asked <= len(names):
        return names[asked - 1]
    if isinstance(asked, str) and asked in names:
        return asked
    raise TableError(
        "The sheet must be in the workbook: its name, or its number from 1.",
        f"sheet={asked!r}; {path} has {', '.join(map(repr, names[:20]))}",
        "correct sheet=",
    )
