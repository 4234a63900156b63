"""Responses and person predictors laid out for a model with slopes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.build import build_design
from multilevel.errors import DesignError
from multilevel.model.formula.parse import parse_formula
from multilevel.model.irt import names_in
from multilevel.tables.responses import ResponseMatrix
from multilevel.tables.table import Table

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PersonPredictors:
    """Person predictors of the kept persons.

    Attributes
    ----------
    kept : (n,) positions of persons that have every predictor.
    x : (n, q) columns, without a constant: the person effect has mean 0 where all are 0.
    names : q names.
    """

    kept: NDArray[np.intp]
    x: Array
    names: tuple[str, ...]


def person_predictors(
    matrix: ResponseMatrix, table: Table, person: str, persons: str
) -> PersonPredictors:
    """Columns of a right-hand side of person predictors, one row per person.

    Raises
    ------
    DesignError : a predictor that differs between the rows of one person.
    """
    n = len(matrix.persons)
    if not persons:
        return PersonPredictors(np.arange(n), np.zeros((n, 0)), ())
    model = parse_formula(f"number_ ~ {persons}", "ml")
    names = [name for name in names_in(persons) if name in table.columns]
    check_constant_in_person(table, person, names)
    frame = table.to_pandas(names, copy=False).iloc[matrix.first_row].reset_index(drop=True)
    frame["number_"] = np.arange(n, dtype=np.float64)
    design = build_design(model, frame)
    columns = [j for j, name in enumerate(design.names) if name != "(Intercept)"]
    return PersonPredictors(
        np.asarray(design.rows.kept), design.X[:, columns], tuple(design.names[j] for j in columns)
    )


def check_constant_in_person(table: Table, person: str, names: list[str]) -> None:
    """Refuse person predictors that differ between the rows of one person.

    Raises
    ------
    DesignError : naming the column and the person.
    """
    who, labels = table.codes(person)
    for name in names:
        values, _ = table.codes(name)
        low = np.full(len(labels), np.iinfo(np.int32).max, dtype=np.int64)
        high = np.full(len(labels), -1, dtype=np.int64)
        known = (who >= 0) & (values >= 0)
        np.minimum.at(low, who[known], values[known])
        np.maximum.at(high, who[known], values[known])
        bad = np.flatnonzero((high >= 0) & (low != high))
        if len(bad):
            raise DesignError(
                "A person predictor must be the same in all rows of a person.",
                f"{name} differs between rows of {person}={labels[bad[0]]!r}",
                "name item features in features=, person predictors in persons=",
            )
