"""The terms of the model for the means, and their columns on any grid of values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.invented import invented_rows
from multilevel.design.recipe import LearntColumns, Recipe
from multilevel.design.records import Design
from multilevel.errors import DesignError, InferenceError
from multilevel.infer.names import canonical, parts_of

Array = NDArray[np.float64]
MAX_GRID = 200_000
#: A value of numeric predictors; only its not being special matters.
GENERIC = 1.3719


@dataclass(frozen=True)
class Term:
    """One term.

    Attributes
    ----------
    label : as shown, ``"meanses:sector"``.
    numeric, categorical : expressions of its factors, as evaluated.
    columns : positions among the fixed effects.
    keys : per column, which product of numeric columns it holds.
    """

    label: str
    numeric: frozenset[str]
    categorical: frozenset[str]
    columns: tuple[int, ...]
    keys: tuple[frozenset[str], ...]


@dataclass(frozen=True)
class TermTable:
    """All terms of a design.

    Attributes
    ----------
    terms : in the order of the formula, the intercept included.
    categories : ``{identifier: categories}`` of the categorical variables.
    owners : ``{categorical factor: its identifier}``.
    numbers : identifiers of the numeric variables.
    shown : ``{identifier: name for readers}``.
    """

    terms: tuple[Term, ...]
    categories: dict[str, tuple[Any, ...]]
    owners: dict[str, str]
    numbers: tuple[str, ...]
    shown: dict[str, str]


def _recipe(design: Design) -> LearntColumns:
    recipe = design.recipe
    if not isinstance(recipe, Recipe):
        raise InferenceError(
            "Tests of terms need a design that was built from a formula.",
            "a design made by hand",
            "use contrast() with a matrix",
        )
    return recipe.fixed


def term_table(design: Design) -> TermTable:
    """Take the model for the means apart.

    Raises
    ------
    InferenceError : a categorical term that is not made of one variable, e.g. ``C(a + b)``.
    """
    learnt = _recipe(design)
    display = dict(learnt.compiled.display)
    state = learnt.spec.encoder_state
    place = {whole: k for k, whole in enumerate(design.recipe.kept_columns)}
    identifiers = [i for i, _ in (*learnt.compiled.columns, *learnt.compiled.centring)]
    categories: dict[str, tuple[Any, ...]] = {}
    owners: dict[str, str] = {}
    terms, at = [], 0
    for item in learnt.spec.structure:
        numeric, categorical = set(), set()
        for expression in (f.expr for f in item.term.factors if f.expr in state):
            kind, details = state[expression]
            if kind.value != "categorical":
                numeric.add(expression)
                continue
            categorical.add(expression)
            owners[expression] = _owner(expression, identifiers, display)
            categories[owners[expression]] = tuple(details["categories"])
        names = learnt.names[at : at + len(item.columns)]
        kept = [(place[at + k], name) for k, name in enumerate(names) if at + k in place]
        shown = [display.get(e, e) for e in categorical]
        keys = tuple(_key(name, shown) for _, name in kept)
        label = ":".join(display.get(f.expr, f.expr) for f in item.term.factors)
        terms.append(
            Term(
                "(Intercept)" if label == "1" else label,
                frozenset(numeric),
                frozenset(categorical),
                tuple(k for k, _ in kept),
                keys,
            )
        )
        at += len(item.columns)
    numbers = tuple(i for i in identifiers if i not in categories)
    return TermTable(
        tuple(terms), categories, owners, numbers, {i: display.get(i, i) for i in identifiers}
    )


def _owner(expression: str, identifiers: list[str], display: Mapping[str, str]) -> str:
    found = [i for i in identifiers if re.search(rf"(?<![\w.]){re.escape(i)}(?!\w)", expression)]
    if len(found) != 1:
        raise InferenceError(
            "A categorical term must be made of one variable.",
            display.get(expression, expression),
            "make it a column of the table first, or use test() on its coefficients",
        )
    return found[0]


def _key(name: str, categorical: list[str]) -> frozenset[str]:
    """The numeric parts of a column name: what is left without its categories."""
    if name == "(Intercept)":
        return frozenset()
    parts = parts_of(name)
    return frozenset(p for p in parts if not any(p.startswith(f"{c}[") for c in categorical))


def check_grid(table: TermTable, factors: tuple[str, ...]) -> int:
    """Number of cells of a grid; ``InferenceError`` if it has more than ``MAX_GRID``."""
    n = 1
    for factor in factors:
        n *= len(table.categories[factor])
    if n > MAX_GRID:
        raise InferenceError(
            f"The grid of categories may have at most {MAX_GRID} cells.",
            f"{n} combinations of {', '.join(table.shown[f] for f in factors)}",
            "use test() or contrast() on the coefficients",
        )
    return n


def grid_rows(
    design: Design,
    table: TermTable,
    factors: tuple[str, ...],
    fixed: Mapping[str, Any],
) -> Array:
    """Columns of X on the grid of all categories of ``factors``: (k_1, ..., k_m, p).

    Parameters
    ----------
    factors : identifiers of categorical variables; the last varies fastest.
    fixed : ``{identifier: value}`` of every other variable.

    Raises
    ------
    InferenceError : a grid that is too large, or values for which a term has no number.
    """
    learnt = _recipe(design)
    shape = tuple(len(table.categories[f]) for f in factors)
    n = check_grid(table, factors)
    cells = list(product(*(table.categories[f] for f in factors)))
    values: dict[str, list[Any]] = {}
    for identifier in table.shown:
        if identifier in factors:
            k = factors.index(identifier)
            column = [cell[k] for cell in cells]
        else:
            column = [fixed[identifier]] * n
        values[identifier] = column
    try:
        X = invented_rows(learnt, values, table.categories, n)
    except DesignError as error:
        raise InferenceError(
            "Every term must give a number on the grid of categories.",
            error.found or error.must,
            "give values with at={...}, or use contrast() on the coefficients",
        ) from error
    kept = X[:, list(design.recipe.kept_columns)]
    return np.asarray(kept.reshape(*shape, kept.shape[1]))


def find_variable(table: TermTable, written: str) -> str:
    """Identifier of a variable (or centring call) of the model for the means, by name.

    Raises
    ------
    InferenceError : no such variable; those of the model are listed.
    """
    for identifier, shown in table.shown.items():
        if canonical(shown) == canonical(written):
            return identifier
    for expression, identifier in table.owners.items():
        if canonical(expression) == canonical(written):
            return identifier
    raise InferenceError(
        "A variable must be in the model for the means.",
        repr(written),
        "its variables are " + ", ".join(table.shown.values()),
    )


def generic_values(design: Design) -> list[float]:
    """Values at which numeric predictors may be held: one of no meaning, some in splines' ranges.

    A column of a B-spline is zero over most of its range, hence several.
    """
    out = [GENERIC]
    for state in _recipe(design).spec.transform_state.values():
        low, high = (state.get(name) for name in ("lower_bound", "upper_bound"))
        if low is not None and high is not None:
            out += [float(low + share * (high - low)) for share in np.linspace(0.03, 0.97, 15)]
    return out
