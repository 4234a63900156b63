"""The persons of a table that is to be reshaped, and what must hold of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.errors import TableError
from multilevel.tables.levels import codes
from multilevel.tables.table import Table


def id_columns(table: Table, id: str | Sequence[str]) -> list[str]:
    """Return the id columns as a list, checked."""
    ids = [id] if isinstance(id, str) else list(dict.fromkeys(id))
    if not ids:
        raise TableError("Persons must have an id.", "id is empty", "name the id column")
    table.check(ids, "to serve as id")
    return ids


def check_new_names(names: Sequence[str], ids: Sequence[str]) -> None:
    """Raise if two columns of the result would have one name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise TableError(
                "The columns of the result must have different names.",
                f"{name!r} would occur twice (id: {', '.join(ids)})",
                "rename the column first, or choose another name for the new one",
            )
        seen.add(name)


def persons(table: Table, ids: Sequence[str]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Number the persons by first occurrence; also the first row of each. Missing: -1."""
    found = np.zeros(table.n_rows, dtype=np.int64)
    for name in ids:
        part, levels = table.codes(name)
        combined = np.where((found < 0) | (part < 0), -1, found * max(len(levels), 1) + part)
        found = np.where(combined < 0, -1, codes(combined)[0].astype(np.int64))
    numbered, unique = pd.factorize(found[found >= 0])
    result = np.full(len(found), -1, dtype=np.int64)
    result[found >= 0] = numbered
    first = np.zeros(len(unique), dtype=np.intp)
    rows = np.flatnonzero(result >= 0)[::-1]
    first[result[rows]] = rows
    return result, first


def _name_person(table: Table, ids: Sequence[str], row: int) -> str:
    """Return ``id=value`` of the person in one row."""
    return ", ".join(f"{name}={_cell(table, name, row)!r}" for name in ids)


def _cell(table: Table, name: str, row: int) -> Any:
    """Return one value as Python shows it."""
    return table.series(name).iloc[[row]].tolist()[0]


def check_one_row_per_id(table: Table, ids: Sequence[str]) -> None:
    """Raise if an id is missing or occurs in two rows."""
    person, first = persons(table, ids)
    if (person < 0).any():
        raise TableError(
            "Every row must have an id.",
            f"{' or '.join(ids)} is missing in row {int(np.argmax(person < 0)) + 1}",
            "fill the id in, or remove the row",
        )
    if len(first) < table.n_rows:
        second = int(np.flatnonzero(first[person] != np.arange(table.n_rows))[0])
        raise TableError(
            "Every person must have one row in wide data.",
            f"{_name_person(table, ids, second)} is in rows {first[person[second]] + 1} "
            f"and {second + 1}",
            "name all columns that make up the id: id=[...]; or the data are long already",
        )


def check_complete(
    table: Table, ids: Sequence[str], time: str, person: NDArray[Any], moment: NDArray[Any]
) -> None:
    """Raise if an id or a time is missing."""
    for name, known in ((" or ".join(ids), person), (time, moment)):
        if (known < 0).any():
            raise TableError(
                "Every row must have an id and a time.",
                f"{name} is missing in row {int(np.argmax(known < 0)) + 1} of {table.n_rows}",
                "fill it in, or remove the row",
            )


def check_one_row_per_moment(
    table: Table, ids: Sequence[str], time: str, person: NDArray[Any], moment: NDArray[Any]
) -> None:
    """Raise if a person has two rows at the same time."""
    cell = person * (int(moment.max(initial=0)) + 1) + moment
    order = np.argsort(cell, kind="stable")
    repeated = np.flatnonzero(np.diff(cell[order]) == 0)
    if len(repeated):
        one, two = int(order[repeated[0]]), int(order[repeated[0] + 1])
        raise TableError(
            "A person can have only one row at a time.",
            f"{_name_person(table, ids, one)}, {_name_person(table, [time], one)} is in rows "
            f"{one + 1} and {two + 1}",
            "name all columns that make up the id: id=[...], or remove the repeated row",
        )


def check_constant(
    table: Table, name: str, ids: Sequence[str], person: NDArray[Any], first: NDArray[np.intp]
) -> None:
    """Raise if a column that is carried along differs within a person."""
    value, _ = codes(table.series(name))
    differs = np.flatnonzero(value != value[first[person]])
    if len(differs):
        row = int(differs[0])
        raise TableError(
            f"{name!r} must be constant within persons, or be spread too.",
            f"{_name_person(table, ids, row)} has {_cell(table, name, int(first[person[row]]))!r} "
            f"in row {first[person[row]] + 1} and {_cell(table, name, row)!r} "
            f"in row {row + 1}",
            f"add {name!r} to columns=[...], or leave it out of the data",
        )
