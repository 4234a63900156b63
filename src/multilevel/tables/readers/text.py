"""Text files with separated columns: csv and tsv, plain or gzipped."""

from __future__ import annotations

import codecs
import csv
import gzip
import re
import warnings
import zlib
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

import pandas as pd

from multilevel.errors import TableError
from multilevel.tables.readers.content import (
    Content,
    ReadOptions,
    header_names,
    unreadable,
    wanted_columns,
)

# Stata and SAS write a lone point for a missing value; pandas knows the other usual marks.
_MISSING_MARKS = (".",)
_DELIMITERS = (",", ";", "\t")
_FAILURES = (
    pd.errors.ParserError,
    ValueError,
    OSError,
    EOFError,
    zlib.error,
    csv.Error,
    MemoryError,
)


def read_text(path: Path, options: ReadOptions) -> Content:
    """Read a csv or tsv file; see `multilevel.read`."""
    encoding = _known_encoding(options.encoding or "utf-8-sig")
    is_tsv = ".tsv" in path.name.lower()
    try:
        delimiter = options.delimiter or ("\t" if is_tsv else _guess_delimiter(path, encoding))
        header = next(_records(path, encoding, delimiter), [])
        names, notes = header_names(header, path)
        if not names:
            raise TableError("The file must have a header and rows.", f"{path} is blank", _EMPTY)
        wanted = wanted_columns(options, names, path)
        frame = _frame(path, names, delimiter, encoding, options)
    except UnicodeError as error:
        raise unreadable(
            path,
            f"text file in encoding {encoding!r}",
            error,
            "name the encoding the file was written in, e.g. encoding='cp1252' (Windows) "
            "or encoding='latin-1'",
        ) from error
    except _FAILURES as error:
        raise unreadable(
            path,
            "text table with one record per line",
            error,
            "check the line named above, or name the delimiter, e.g. delimiter=';'",
        ) from error
    made_up = [name for name in names if name.startswith("unnamed_") and frame[name].isna().all()]
    frame = frame.drop(columns=made_up) if wanted is None else frame[wanted]
    kept_notes = [note for note in notes if not any(f"{name!r}" in note for name in made_up)]
    return Content(frame, notes=tuple(kept_notes))


_EMPTY = "write the column names into the first line and one line for every row"


def _known_encoding(encoding: str) -> str:
    """Check that Python knows the encoding and that it is one of text."""
    try:
        codecs.lookup(encoding)
        "a".encode(encoding)
    except (LookupError, TypeError, ValueError) as error:
        raise TableError(
            "The encoding must be one that Python knows.",
            f"encoding={encoding!r}",
            "write for example encoding='utf-8', 'cp1252' or 'latin-1'",
        ) from error
    return encoding


def _opened(path: Path, encoding: str) -> TextIO:
    """Open a text file, gzipped or not."""
    if path.suffix.lower() == ".gz":
        return TextIOWrapper(gzip.open(path, "rb"), encoding=encoding, newline="")
    return path.open(encoding=encoding, newline="")


def _records(path: Path, encoding: str, delimiter: str) -> Iterator[list[str]]:
    """Give the records of a text file, blank lines left out."""
    with _opened(path, encoding) as lines:
        yield from (record for record in csv.reader(lines, delimiter=delimiter) if record)


def _guess_delimiter(path: Path, encoding: str) -> str:
    """Return the mark that occurs most often in the header, quoted names aside."""
    with _opened(path, encoding) as lines:
        header = next((line for line in lines if line.strip()), "")
    bare = re.sub(r'"[^"]*"', "", header)
    return max(_DELIMITERS, key=bare.count)  # the first of equals, so a comma if there is none


def _frame(
    path: Path, names: list[str], delimiter: str, encoding: str, options: ReadOptions
) -> pd.DataFrame:
    """Read the rows; raise where they have more fields than the header, which pandas cuts off."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                path,
                sep=delimiter,
                encoding=encoding,
                header=0,
                names=names,
                index_col=False,
                decimal=options.decimal,
                na_values=[*_MISSING_MARKS, *map(str, options.na_values)],
                low_memory=False,
                float_precision="round_trip" if options.decimal == "." else None,
            )
    except pd.errors.ParserWarning as warning:
        raise TableError(
            "No row may have more fields than the header has names.",
            f"{path}: {len(names)} names, more fields in the rows",
            "name every column in the header; in R write with row.names = FALSE",
        ) from warning
