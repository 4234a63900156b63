"""Long and wide: one row per occasion, or one row per person."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.errors import TableError
from multilevel.tables.persons import (
    check_complete,
    check_constant,
    check_new_names,
    check_one_row_per_id,
    check_one_row_per_moment,
    id_columns,
    persons,
)
from multilevel.tables.table import Table, as_table

Stacks = dict[str, list[str | None]]


def to_long(
    data: Any,
    *,
    id: str | Sequence[str],
    columns: Mapping[str, Sequence[str | None]] | Sequence[str] | str,
    time: str = "time",
    times: Sequence[Any] | None = None,
    drop_missing: bool = True,
) -> Table:
    """Stack repeated measures: one row per person becomes one row per person and occasion.

    Only rows without any outcome are left out; a person with a missing occasion keeps the others.

    Parameters
    ----------
    data : anything that holds columns (see `multilevel.Table`), one row per person.
    id : the column, or columns, that identify a person; each combination in one row only.
    columns : which columns are measured repeatedly. Either
        ``{new: [old, old, ...]}``, one list per outcome, in the order of the occasions
        (``None`` where an outcome was not measured), or
        the common stub of their names: ``"score"`` stands for ``score1``, ``score_2``,
        ``score.3``; several stubs as a list. A stub that lacks an occasion is missing there.
    time : name of the new column that holds the time of each row.
    times : the time of each occasion. Default: the numbers in the names for stubs, else
        1, 2, .... Give numbers or labels that hold for everybody, ``[0, 1, 3]``; or, where
        everybody was measured at times of their own, **the names of the columns that hold these
        times**, ``["age1", "age2", "age3"]``; these columns are then used up.
    drop_missing : leave out rows in which every outcome is missing (default).

    Returns
    -------
    A `Table` with the columns id, time, outcomes, then all other columns, repeated. Rows are sorted
    by person (in the order of ``data``), then occasion. Labels are kept; a note counts the rows
    left out, and the persons who have no row because they have no outcome at all.

    Raises
    ------
    TableError : if a column is not there, ids are missing or repeat, the lists differ in length,
        or a new name is taken.

    Examples
    --------
    >>> import multilevel as mlm
    >>> wide = {"child": [1, 2], "y1": [5.0, 6.0], "y2": [7.0, None], "sex": ["f", "m"]}
    >>> mlm.to_long(wide, id="child", columns="y").to_pandas()
       child  time    y sex
    0      1     1  5.0   f
    1      1     2  7.0   f
    2      2     1  6.0   m
    """
    table = as_table(data)
    ids = id_columns(table, id)
    stacks, default_times = _stacks(table, columns)
    n_occasions = len(next(iter(stacks.values())))
    own_times, labels = _times(table, times, default_times, n_occasions)
    used = {old for olds in stacks.values() for old in olds if old is not None} | set(own_times)
    kept = [name for name in table.columns if name not in used and name not in ids]
    check_new_names([*ids, time, *stacks, *kept], ids)
    if used & set(ids):
        raise TableError(
            "An id cannot be an outcome.", f"{sorted(used & set(ids))[0]!r}", "name another id"
        )
    check_one_row_per_id(table, ids)

    n = table.n_rows
    row = np.repeat(np.arange(n), n_occasions)
    occasion = np.tile(np.arange(n_occasions), n)
    parts: dict[str, Any] = {}
    for name in ids:
        parts[name] = table.series(name).take(row).array
    if own_times:
        parts[time] = _stacked(table, list(own_times))
    else:
        parts[time] = pd.Series(labels).take(occasion).array
    is_known = np.zeros(n * n_occasions, dtype=bool)
    for new, olds in stacks.items():
        parts[new] = _stacked(table, olds)
        is_known |= ~pd.isna(pd.Series(parts[new])).to_numpy()
    for name in kept:
        parts[name] = table.series(name).take(row).array
    frame = pd.DataFrame(parts)
    notes: tuple[str, ...] = ()
    if drop_missing and not is_known.all():
        notes = _drop_notes(is_known.reshape(n, n_occasions))
        frame = frame[is_known].reset_index(drop=True)
    variable_labels = {name: table.label(name) for name in [*ids, *kept] if table.label(name)}
    value_labels = {k: v for k, v in table.value_labels.items() if k in {*ids, *kept}}
    for new, olds in stacks.items():
        shared = [dict(table.value_labels.get(old, {})) for old in olds if old is not None]
        if shared and shared[0] and all(one == shared[0] for one in shared):
            value_labels[new] = shared[0]
    return Table(frame, variable_labels, value_labels, table.source, (*table.notes, *notes))


def to_wide(
    data: Any,
    *,
    id: str | Sequence[str],
    columns: Sequence[str] | str,
    time: str,
    own_times: bool = False,
    separator: str = "",
) -> Table:
    """Spread repeated measures: one row per person and occasion becomes one row per person.

    Parameters
    ----------
    data : anything that holds columns (see `multilevel.Table`), one row per person and occasion.
    id : the column, or columns, that identify a person.
    columns : the outcome, or outcomes, to spread.
    time : the column that tells the occasions of a person apart.
    own_times : ``False`` (default): one new column for every time that occurs, named outcome,
        separator, time: ``score1``, ``score2``. ``True``, for people measured at times of their
        own: occasions are numbered 1, 2, ... by each person's own order in time, and the times
        are kept in columns of their own: ``score1``, ``score2``, ``age1``, ``age2``.
    separator : put between the name and the time.

    Returns
    -------
    A `Table` with the columns id, the other columns, then the spread ones; one row per person, in
    the order in which the persons first occur. An occasion that a person lacks is missing.

    Raises
    ------
    TableError : if a column is not there; an id or time is missing; a person has two rows at one
        time; another column is not constant within persons; or a new name is taken.

    Examples
    --------
    >>> import multilevel as mlm
    >>> long = {"child": [1, 1, 2], "wave": [1, 2, 1], "y": [5.0, 7.0, 6.0]}
    >>> mlm.to_wide(long, id="child", columns="y", time="wave").to_pandas()
       child   y1   y2
    0      1  5.0  7.0
    1      2  6.0  NaN
    """
    table = as_table(data)
    ids = id_columns(table, id)
    outcomes = [columns] if isinstance(columns, str) else list(dict.fromkeys(columns))
    table.check([*outcomes, time])
    clash = {*ids} & {*outcomes, time} or {*outcomes} & {time}
    if clash:
        raise TableError(
            "Id, time and outcomes must be different columns.",
            f"{sorted(clash)[0]!r} has two roles",
            "name each column once",
        )
    person, first = persons(table, ids)
    moment, moments = table.codes(time)
    check_complete(table, ids, time, person, moment)
    check_one_row_per_moment(table, ids, time, person, moment)
    if own_times:
        moment, moments = _occasion_numbers(person, moment)
        outcomes = [*outcomes, time]
    kept = [name for name in table.columns if name not in {*ids, *outcomes, time}]
    parts: dict[str, Any] = {name: table.series(name).take(first).array for name in ids}
    for name in kept:
        check_constant(table, name, ids, person, first)
        parts[name] = table.series(name).take(first).array
    value_labels = {k: v for k, v in table.value_labels.items() if k in parts}
    variable_labels = {name: table.label(name) for name in parts if table.label(name)}
    new_names = [f"{name}{separator}{moment}" for name in outcomes for moment in moments.tolist()]
    check_new_names([*parts, *new_names], ids)
    place = np.full((len(first), len(moments)), -1, dtype=np.intp)
    place[person, moment] = np.arange(table.n_rows)
    for name in outcomes:
        series = table.series(name)
        for column, label in enumerate(moments.tolist()):
            new = f"{name}{separator}{label}"
            parts[new] = _taken(series, place[:, column])
            if name in table.value_labels:
                value_labels[new] = table.value_labels[name]
    return Table(pd.DataFrame(parts), variable_labels, value_labels, table.source, table.notes)


def _stacks(table: Table, columns: Any) -> tuple[Stacks, list[Any]]:
    """Return the old columns of every new one, and the times their names tell."""
    if not isinstance(columns, Mapping):
        stubs = [columns] if isinstance(columns, str) else list(dict.fromkeys(columns))
        return _stacks_of_stubs(table, stubs)
    stacks: Stacks = {
        new: [olds] if isinstance(olds, str) else list(olds) for new, olds in columns.items()
    }
    lengths = {new: len(olds) for new, olds in stacks.items()}
    if not lengths or len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise TableError(
            "Every outcome must list the same number of columns, one per occasion.",
            ", ".join(f"{new}: {n}" for new, n in lengths.items()) or "no outcome",
            "write None where an outcome was not measured",
        )
    named = [old for olds in stacks.values() for old in olds if old is not None]
    table.check(named)
    twice = [old for old in dict.fromkeys(named) if named.count(old) > 1]
    if twice:
        raise TableError(
            "A column can be stacked only once.", f"{twice[0]!r} is listed twice", "list it once"
        )
    return stacks, list(range(1, 1 + next(iter(lengths.values()))))


def _stacks_of_stubs(table: Table, stubs: list[str]) -> tuple[Stacks, list[Any]]:
    """Find the columns ``stub1``, ``stub_2``, ``stub.3`` of every stub."""
    found: dict[str, dict[int, str]] = {}
    for stub in stubs:
        pattern = re.compile(rf"{re.escape(stub)}[_.]?(\d+)")
        matches = [(one, pattern.fullmatch(one)) for one in table.columns]
        found[stub] = {}
        for name, match in matches:
            if match is None:
                continue
            number = int(match[1])
            if number in found[stub]:
                raise TableError(
                    "Every occasion must have one column per outcome.",
                    f"{found[stub][number]!r} and {name!r} both read as occasion {number}",
                    "list the columns: columns={'new': ['old', ...]}",
                )
            found[stub][number] = name
        if not found[stub]:
            raise TableError(
                f"Columns named {stub!r} and a number must be in the data.",
                f"columns {', '.join(table.columns[:20])}",
                "list the columns instead: columns={'new': ['old', ...]}",
            )
    numbers = sorted({number for known in found.values() for number in known})
    stacks: Stacks = {stub: [known.get(n) for n in numbers] for stub, known in found.items()}
    if not stacks:
        raise TableError("There must be an outcome to stack.", "none", "name a stub")
    return stacks, list(numbers)


def _times(
    table: Table, times: Sequence[Any] | None, default: list[Any], n_occasions: int
) -> tuple[tuple[str, ...], list[Any]]:
    """Return the columns that hold everybody's own times, or the times common to all."""
    if times is None:
        return (), default
    listed = list(times)
    if len(listed) != n_occasions:
        raise TableError(
            "There must be one time for every occasion.",
            f"{len(listed)} times, {n_occasions} occasions",
            "list as many times as each outcome has columns",
        )
    are_columns = [isinstance(one, str) and one in table.columns for one in listed]
    if any(are_columns) and not all(are_columns):
        odd = listed[are_columns.index(False)]
        raise TableError(
            "The times must be all columns of the data, or all values.",
            f"{odd!r} is not a column, {listed[are_columns.index(True)]!r} is",
            "correct times=[...]",
        )
    if len(set(map(str, listed))) < len(listed):
        raise TableError(
            "The times of the occasions must differ.", f"times={listed!r}", "correct times=[...]"
        )
    return (tuple(listed), []) if all(are_columns) else ((), listed)


def _occasion_numbers(
    person: NDArray[Any], moment: NDArray[Any]
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Number each person's rows 1, 2, ... in time; returns codes from 0 and the numbers."""
    order = np.lexsort((moment, person))
    ordered = person[order]
    is_start = np.r_[True, ordered[1:] != ordered[:-1]] if len(ordered) else np.zeros(0, bool)
    start = np.flatnonzero(is_start)
    rank = np.arange(len(ordered)) - np.repeat(start, np.diff(np.r_[start, len(ordered)]))
    number = np.empty(len(ordered), dtype=np.int32)
    number[order] = rank
    return number, np.arange(1, int(number.max(initial=-1)) + 2)


def _stacked(table: Table, olds: Sequence[str | None]) -> Any:
    """Interleave columns into (n * occasions,) values, person by person."""
    given = [table.series(old) for old in olds if old is not None]
    kinds = {table.kind(old): old for old in olds if old is not None}
    if len(kinds) > 1 and not {*kinds} <= {"numeric", "boolean"}:
        # An empty column of text reads as numbers; only columns with values can disagree.
        kinds = {
            table.kind(old): old
            for old in olds
            if old is not None and table.series(old).notna().any()
        }
        if len({*kinds} - {"text", "category"}) + bool({*kinds} & {"text", "category"}) > 1:
            raise TableError(
                "Columns that are stacked must hold the same kind of values.",
                ", ".join(f"{name!r} is {kind}" for kind, name in kinds.items()),
                "convert them, or stack them under different names",
            )
        given = [one.astype(object) for one in given]
    n, n_occasions = table.n_rows, len(olds)
    # Column j of the j-th occasion stands at rows j*n ... of the concatenation; -1 is missing.
    starts = np.full(n_occasions, -1, dtype=np.intp)
    starts[[j for j, old in enumerate(olds) if old is not None]] = np.arange(len(given)) * n
    place = np.where(starts < 0, -1, starts + np.arange(n)[:, None])
    if not given:
        return np.full(n * n_occasions, np.nan)
    return _taken(pd.concat(given, ignore_index=True), place.ravel())


def _taken(series: pd.Series[Any], place: NDArray[np.intp]) -> Any:
    """Values at the given rows, missing at -1."""
    if (place >= 0).all():
        return series.take(place).array
    return series.reset_index(drop=True).reindex(np.where(place < 0, len(series), place)).array


def _drop_notes(is_known: NDArray[np.bool_]) -> tuple[str, ...]:
    """Say how many rows, and persons, are left out; ``is_known`` is persons x occasions."""
    n_empty = int((~is_known).sum())
    n_persons = int((~is_known.any(axis=1)).sum())
    rows = "1 row" if n_empty == 1 else f"{n_empty} rows"
    told = [f"to_long left out {rows} without any outcome"]
    if n_persons:
        persons = "1 person has" if n_persons == 1 else f"{n_persons} persons have"
        told.append(f"{persons} no outcome at all, and so no row")
    return tuple(told)
