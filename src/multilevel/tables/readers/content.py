"""What every reader gives back, what it is asked, and the checks they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from multilevel.errors import TableError

Labels = Literal["numeric", "categories"]
UserMissing = Literal["missing", "values"]
LABELS: tuple[str, ...] = get_args(Labels)
USER_MISSING: tuple[str, ...] = get_args(UserMissing)


@dataclass(frozen=True)
class ReadOptions:
    """The options of `multilevel.read`; their meaning stands there."""

    columns: tuple[str, ...] | None = None
    labels: Labels = "numeric"
    user_missing: UserMissing = "missing"
    encoding: str | None = None
    delimiter: str | None = None
    decimal: str = "."
    na_values: tuple[Any, ...] = ()
    sheet: str | int | None = None


@dataclass(frozen=True)
class Content:
    """The content of one file: a pandas frame, its labels, and what was changed."""

    frame: pd.DataFrame
    variable_labels: Mapping[str, str] = field(default_factory=dict)
    value_labels: Mapping[str, Mapping[Any, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def unreadable(path: Path, what: str, error: BaseException, remedy: str = "") -> TableError:
    """Return the error for a file that is not what its suffix says."""
    said = " ".join(str(error).split())[:300] or "no further message"
    return TableError(
        f"The file must be a readable {what}.",
        f"{path}: {type(error).__name__}: {said}",
        remedy or "check that the file is complete and that its suffix fits its content",
    )


def header_names(raw: Sequence[Any], path: Path) -> tuple[list[str], list[str]]:
    """Return clean column names, and notes on the ones that had to be made up."""
    names: list[str] = []
    notes: list[str] = []
    for place, cell in enumerate(raw, start=1):
        is_empty = cell is None or (isinstance(cell, float) and cell != cell)
        name = "" if is_empty else str(cell).strip()
        if not name:
            name = f"unnamed_{place}"
            notes.append(f"column {place} has no name in the file; it is called {name!r}")
        names.append(name)
    check_unique(names, path)
    return names, notes


def check_unique(names: Sequence[str], path: Path) -> None:
    """Raise if a column name occurs twice."""
    places: dict[str, int] = {}
    for place, name in enumerate(names, start=1):
        if name in places:
            raise TableError(
                "Column names must be unique.",
                f"{name!r} names columns {places[name]} and {place} of {path}",
                "rename or remove one of them in the file",
            )
        places[name] = place


def wanted_columns(options: ReadOptions, names: Sequence[str], path: Path) -> list[str] | None:
    """Return the columns asked for, checked against those of the file; None means all."""
    if options.columns is None:
        return None
    for name in options.columns:
        if name not in names:
            raise TableError(
                f"Column {name!r} must be in the file.",
                f"{path} has columns {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}",
                "correct columns=[...]",
            )
    return list(options.columns)
