"""Responses of persons to items: long tables, wide tables, and a matrix of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.errors import TableError
from multilevel.tables.reshape import to_long
from multilevel.tables.table import Table, as_table


@dataclass(frozen=True)
class ResponseMatrix:
    """Responses as codes, persons by items.

    Attributes
    ----------
    codes : (n_persons, I) position of the response among the categories of its item; -1 missing.
    persons, items : labels.
    categories : per item the labels of its categories, lowest first.
    first_row : (n_persons,) a row of the table that belongs to the person.
    """

    codes: NDArray[np.int64]
    persons: tuple[Any, ...]
    items: tuple[str, ...]
    categories: tuple[tuple[Any, ...], ...]
    first_row: NDArray[np.intp]


def long_responses(
    data: Any, *, person: str, item: str, response: str, items: Sequence[str] | None
) -> Table:
    """The table with one row per person and item.

    Parameters
    ----------
    data : long already (``items`` None), or wide: one row per person.
    person : the id of the person.
    item, response : columns of a long table; names of the new columns of a wide one.
    items : columns of a wide table that hold the responses.

    Raises
    ------
    TableError : columns that are not there, ids that are missing or repeat.
    """
    table = as_table(data)
    if items is None:
        table.check([person, item, response], "to read responses")
        return table
    listed = list(items)
    if len(listed) < 2:
        raise TableError(
            "items= lists the columns that hold responses, two or more.",
            f"{listed!r}",
            "list the columns",
        )
    frame = to_long(table, id=person, columns={response: listed}, time=item).to_pandas()
    # ordered: tables then list items in the order of the columns
    names = np.asarray(listed, dtype=object)[frame[item].to_numpy().astype(np.int64) - 1]
    frame[item] = pd.Categorical(names, categories=listed, ordered=True)
    return as_table(frame)


def response_matrix(
    table: Table,
    *,
    person: str,
    item: str,
    response: str,
    event: Any = None,
    categories: Sequence[Any] = (),
) -> ResponseMatrix:
    """Lay a long table out as persons by items.

    Parameters
    ----------
    event : the response that counts as 1, of two; None for the last in order.
    categories : order of the responses, lowest first; needed for three or more words.

    Raises
    ------
    TableError : a person who answers an item twice; an item with one kind of response only;
        responses that are not among ``categories``.
    """
    who, persons = table.codes(person)
    which, items = table.codes(item)
    answer, order = _answers(table, response, event, categories)
    kept = (who >= 0) & (which >= 0) & (answer >= 0)
    cell = who[kept].astype(np.int64) * len(items) + which[kept]
    _check_once(cell, np.flatnonzero(kept), table, person, item)
    codes = np.full((len(persons), len(items)), -1, dtype=np.int64)
    codes.ravel()[cell] = answer[kept]
    first = np.full(len(persons), -1, dtype=np.intp)
    rows = np.flatnonzero(who >= 0)[::-1]
    first[who[rows]] = rows
    answered = (codes >= 0).any(axis=1)
    codes, first, persons = codes[answered], first[answered], persons[answered]
    own = []
    for i, name in enumerate(items):
        seen = np.unique(codes[codes[:, i] >= 0, i])
        if len(seen) < 2:
            raise TableError(
                "Responses to every item must differ between persons.",
                f"{name!r} has {len(seen)} kind of response: "
                f"{', '.join(repr(order[c]) for c in seen) or 'none'}",
                "leave the item out: its easiness has no finite estimate",
            )
        place = np.full(len(order) + 1, -1, dtype=np.int64)
        place[seen] = np.arange(len(seen))
        codes[:, i] = place[codes[:, i]]
        own.append(tuple(order[c] for c in seen))
    return ResponseMatrix(
        codes, tuple(persons.tolist()), tuple(str(name) for name in items), tuple(own), first
    )


def _answers(
    table: Table, response: str, event: Any, categories: Sequence[Any]
) -> tuple[NDArray[np.int64], list[Any]]:
    """Codes of the responses in their order, and the order."""
    codes, levels = table.codes(response)
    found = [value.item() if hasattr(value, "item") else value for value in levels]
    order = list(categories) or list(table.categories(response)) or found
    order = [value for value in order if value in found] if not categories else order
    unknown = [value for value in found if value not in order]
    if unknown:
        raise TableError(
            "Every response must be among the categories.",
            f"{response} = {unknown[0]!r}",
            f"add it to categories={order!r}",
        )
    is_words = table.kind(response) in ("text", "other")
    if not categories and is_words and len(order) > 2:
        raise TableError(
            "The order of three or more worded responses must be said.",
            f"{response} has {', '.join(map(repr, order[:6]))}",
            "write categories=[lowest, ..., highest]",
        )
    if event is not None:
        if event not in order or len(order) != 2:
            raise TableError(
                "event= is one of two kinds of response.",
                f"event={event!r}, responses {', '.join(map(repr, order[:6]))}",
                "write one of them, or categories=[lowest, ..., highest]",
            )
        order = [*(value for value in order if value != event), event]
    place = np.array([order.index(value) for value in found] + [-1], dtype=np.int64)
    return place[codes], order


def _check_once(
    cell: NDArray[np.int64], rows: NDArray[np.intp], table: Table, person: str, item: str
) -> None:
    repeated = pd.Series(cell).duplicated().to_numpy()
    if repeated.any():
        row = int(rows[np.flatnonzero(repeated)[0]])
        who, what = table.column(person)[row], table.column(item)[row]
        raise TableError(
            "A person may answer an item once.",
            f"{person}={who} answers {item}={what} again in row {row + 1}",
            "keep one row, or give the repeated administrations ids of their own",
        )
